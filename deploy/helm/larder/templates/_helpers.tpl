{{- define "larder.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "larder.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "larder.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "larder.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "larder.selector" -}}
app.kubernetes.io/name: {{ include "larder.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: proxy
{{- end -}}

{{- define "larder.valkey.selector" -}}
app.kubernetes.io/name: {{ include "larder.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: valkey
{{- end -}}

{{- /* Labels of pods: nothing that changes with the chart's version alone, or every pod would be replaced. */ -}}
{{- define "larder.podLabels" -}}
app.kubernetes.io/part-of: larder
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Labels of every object; what selects pods is not among them, because components differ. */ -}}
{{- define "larder.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: larder
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "larder.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "larder.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "larder.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "larder.originSecret" -}}
{{- default (printf "%s-origin" (include "larder.fullname" .)) .Values.origin.existingSecret -}}
{{- end -}}

{{- define "larder.originSecretKey" -}}
{{- if .Values.origin.existingSecret -}}{{ .Values.origin.existingSecretKey }}{{- else -}}control-url{{- end -}}
{{- end -}}

{{- define "larder.originPort" -}}
{{- regexFind ":[0-9]+(/|\\?|$)" (trimPrefix "postgresql://" (trimPrefix "postgres://" .Values.origin.url)) | default ":5432" | trimPrefix ":" | trimSuffix "/" | trimSuffix "?" -}}
{{- end -}}

{{- define "larder.valkeyPort" -}}
{{- $default := ternary ":26379" ":6379" (contains "-sentinel://" .Values.valkey.url) -}}
{{- regexFind ":[0-9]+([/,?]|$)" (regexReplaceAll "^[a-z-]+://" .Values.valkey.url "") | default $default | trimPrefix ":" | trimSuffix "/" | trimSuffix "," | trimSuffix "?" -}}
{{- end -}}

{{- define "larder.valkeyUrl" -}}
{{- if .Values.valkey.enabled -}}
{{- printf "redis://%s-valkey:6379" (include "larder.fullname" .) -}}
{{- else -}}
{{- .Values.valkey.url -}}
{{- end -}}
{{- end -}}

{{- /* One line of TOML. Numbers of YAML arrive as floats: 10000 must not become 10000.0. */ -}}
{{- define "larder.toml.value" -}}
{{- if kindIs "string" . -}}{{ . | toJson }}
{{- else if kindIs "bool" . -}}{{ . }}
{{- else if kindIs "slice" . -}}{{ . | toJson }}
{{- else if eq (float64 (int64 .)) (float64 .) -}}{{ int64 . }}
{{- else -}}{{ . }}
{{- end -}}
{{- end -}}

{{- /* larder.toml: the values that have a name of their own, then `config` over them. */ -}}
{{- define "larder.toml" -}}
{{- $origin := dict "url" .Values.origin.url "tls" .Values.origin.tls -}}
{{- if .Values.origin.tlsCaSecret -}}{{- $_ := set $origin "tls_ca" "/etc/larder/origin-ca/ca.crt" -}}{{- end -}}
{{- $listen := dict -}}
{{- if .Values.clientTls.existingSecret -}}
{{- $listen = dict "tls" .Values.clientTls.mode "tls_cert" "/etc/larder/client-tls/tls.crt" "tls_key" "/etc/larder/client-tls/tls.key" -}}
{{- end -}}
{{- $named := dict
      "origin" $origin
      "listen" $listen
      "cache" (dict "mode" .Values.cache.mode "memory" .Values.cache.memory)
      "freshness" (dict "level" .Values.freshness.level "max_lag" .Values.freshness.maxLag)
      "verify" (dict "sample" .Values.verify.sample)
      "drain" (dict "grace" (printf "%ds" (int .Values.drain.graceSeconds)))
      "log" (dict "format" "json") -}}
{{- range $section, $keys := mergeOverwrite $named (deepCopy .Values.config) }}
{{- if $keys }}
[{{ $section }}]
{{- range $key, $value := $keys }}
{{ $key }} = {{ include "larder.toml.value" $value }}
{{- end }}
{{ end }}
{{- end }}
{{- range .Values.rules }}
[[rule]]
{{- range $what, $which := .match }}
match = { {{ $what }} = {{ $which | toJson }} }
{{- end }}
{{- if hasKey . "cache" }}
cache = {{ .cache }}
{{- end }}
{{- with .ttl }}
ttl = {{ . | toJson }}
{{- end }}
{{ end }}
{{- end -}}

{{- /* What a schema cannot say. */ -}}
{{- define "larder.contradictions" -}}
{{- if and .Values.origin.controlUrl .Values.origin.existingSecret -}}
{{- fail "origin.controlUrl and origin.existingSecret: name the account in one of them only" -}}
{{- end -}}
{{- if not (or .Values.origin.controlUrl .Values.origin.existingSecret (eq .Values.cache.mode "bypass")) -}}
{{- fail "origin.existingSecret: name a Secret with the URL of Larder's own account (kubectl create secret generic larder-origin --from-literal=control-url=postgres://larder:...@host:5432/database)" -}}
{{- end -}}
{{- if gt (len (compact (list .Values.valkey.url .Values.valkey.existingSecret (ternary "own" "" .Values.valkey.enabled)))) 1 -}}
{{- fail "valkey: one of url, existingSecret and enabled" -}}
{{- end -}}
{{- if and .Values.admin.user (not .Values.admin.existingSecret) -}}
{{- fail "admin.existingSecret: name the Secret that has the password of admin.user" -}}
{{- end -}}
{{- if and .Values.metrics.podMonitor.enabled .Values.metrics.serviceMonitor.enabled -}}
{{- fail "metrics: podMonitor or serviceMonitor, or everything is counted twice" -}}
{{- end -}}
{{- if .Values.autoscaling.enabled -}}
{{- if lt (int .Values.autoscaling.maxReplicas) (int .Values.autoscaling.minReplicas) -}}
{{- fail "autoscaling: maxReplicas is less than minReplicas" -}}
{{- end -}}
{{- if not (or .Values.autoscaling.targetCPUUtilizationPercentage .Values.autoscaling.targetClientsPerPod) -}}
{{- fail "autoscaling: nothing to scale by: targetCPUUtilizationPercentage or targetClientsPerPod" -}}
{{- end -}}
{{- end -}}
{{- end -}}
