"""What the dashboards are built of: panels of Grafana's JSON model, one function for each kind.

Every panel says what it shows; every rate is taken over $__rate_interval; every series is chosen by the variables.
"""

# Larder's own series. With "All", `.*` is sent, which also matches series that have no such label.
OURS = 'namespace=~"$namespace", pod=~"$pod"'
# What stands around it: exporters have pods of their own.
THEIRS = 'namespace=~"$namespace"'
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# The same outcome is the same colour on every dashboard; calm ones for what is normal.
COLOURS = {
    "hit": "green", "hit l1": "green", "hit l2": "super-light-green", "coalesced": "light-green", "coalesced l1": "light-green",
    "miss": "blue", "miss origin": "blue", "bypass": "purple", "bypass origin": "purple", "error": "orange", "error origin": "orange",
    "saved": "green", "spent": "blue", "mismatches": "red",
}
GOOD, BAD = "green", "red"


def expression(text):
    """OURS and THEIRS in braces become the selectors; lines become one."""
    return " ".join(text.replace("OURS", OURS).replace("THEIRS", THEIRS).split())


def targets(queries, **more):
    return [
        {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": expression(text), "legendFormat": legend, **more}
        for number, (text, legend) in enumerate(queries)
    ]


def panel(kind, title, description, queries, unit, width, height, options, custom=None, **defaults):
    return {
        "type": kind, "title": title, "description": description, "datasource": SOURCE, "targets": queries,
        "gridPos": {"h": height, "w": width, "x": 0, "y": 0},
        "fieldConfig": {"defaults": {"unit": unit, "custom": custom or {}, **defaults}, "overrides": []},
        "options": options,
    }


def series(title, description, queries, unit="short", width=12, height=8, stacked=False, log=False, **defaults):
    """Lines over time; `queries`: [(PromQL, legend)]."""
    custom = {
        "drawStyle": "line", "lineWidth": 1, "fillOpacity": 25 if stacked else 8, "showPoints": "never", "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "scaleDistribution": {"type": "log", "log": 10} if log else {"type": "linear"},
        "axisSoftMin": 0,
    }
    if log:
        del custom["axisSoftMin"]
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    made = panel("timeseries", title, description, targets(queries), unit, width, height, options, custom, **defaults)
    made["fieldConfig"]["overrides"] = [
        {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}]}
        for name, colour in COLOURS.items()
        if any("{{outcome}}" in legend or legend == name for _, legend in queries)
    ]
    return made


def stat(title, description, query, unit="short", steps=((None, GOOD),), mappings=(), decimals=None, width=4, height=4):
    """One number, with a small chart behind it."""
    thresholds = {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in steps]}
    options = {
        "colorMode": "value", "graphMode": "area" if not mappings else "none", "justifyMode": "auto", "textMode": "value",
        "orientation": "auto", "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    more = {"thresholds": thresholds, "mappings": [
        {"type": "value", "options": {str(value): {"text": text, "color": colour, "index": index} for index, (value, text, colour) in enumerate(mappings)}},
    ] if mappings else []}
    if decimals is not None:
        more["decimals"] = decimals
    return panel("stat", title, description, targets([(query, "")]), unit, width, height, options, **more)


def heatmap(title, description, query, width=12, height=9):
    """How long things took: time to the right, duration upwards, colour for how many."""
    query = targets([(query, "{{le}}")], format="heatmap")
    options = {
        "calculate": False, "cellGap": 1, "color": {"mode": "scheme", "scheme": "Blues", "fill": "blue", "steps": 64, "exponent": 0.5, "reverse": False},
        "yAxis": {"unit": "s", "axisPlacement": "left"}, "rowsFrame": {"layout": "le"}, "legend": {"show": True},
        "tooltip": {"mode": "single", "yHistogram": True}, "filterValues": {"le": 1e-9}, "exemplars": {"color": "orange"},
    }
    return panel("heatmap", title, description, query, "short", width, height, options, {"scaleDistribution": {"type": "linear"}})


def bars(title, description, query, legend, unit="short", width=12, height=9):
    """A ranking over the whole time that is shown."""
    options = {
        "displayMode": "basic", "orientation": "horizontal", "valueMode": "color", "namePlacement": "auto", "showUnfilled": False,
        "sizing": "auto", "minVizHeight": 12, "minVizWidth": 8, "maxVizHeight": 28, "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    made = panel("bargauge", title, description, targets([(query, legend)], instant=True, range=False), unit, width, height, options)
    made["fieldConfig"]["defaults"]["color"] = {"mode": "fixed", "fixedColor": "blue"}
    return made


def timeline(title, description, query, legend, states, width=12, height=6):
    """What was so when; `states`: (value, text, colour)."""
    options = {
        "mergeValues": True, "showValue": "never", "alignValue": "left", "rowHeight": 0.8,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}, "tooltip": {"mode": "single", "sort": "none"},
    }
    mappings = [{"type": "value", "options": {str(value): {"text": text, "color": colour, "index": index} for index, (value, text, colour) in enumerate(states)}}]
    return panel("state-timeline", title, description, targets([(query, legend)]), "short", width, height, options, {"fillOpacity": 70, "lineWidth": 0}, mappings=mappings)


def table(title, description, columns, width=24, height=8):
    """A row for each pod; `columns`: (heading, PromQL, unit). The first query's labels are columns, too."""
    queries = targets([(text, "") for _, text, _ in columns], format="table", instant=True, range=False)
    made = panel("table", title, description, queries, "short", width, height, {"showHeader": True, "cellHeight": "sm"}, {"align": "auto", "cellOptions": {"type": "auto"}})
    hidden = ["Time", "__name__", "job", "endpoint", "container", "service", "prometheus", *[f"Time {number + 1}" for number in range(len(columns))]]
    renamed = {f"Value #{chr(ord('A') + number)}": heading for number, (heading, _, _) in enumerate(columns)}
    hidden.append("Value #A")
    made["transformations"] = [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": {name: True for name in hidden}, "indexByName": {}, "renameByName": renamed}},
    ]
    made["fieldConfig"]["overrides"] = [
        {"matcher": {"id": "byName", "options": heading}, "properties": [{"id": "unit", "value": unit}]} for heading, _, unit in columns[1:]
    ]
    return made


def text(content, width=24, height=3):
    return {
        "type": "text", "title": "", "description": "", "datasource": SOURCE, "gridPos": {"h": height, "w": width, "x": 0, "y": 0}, "transparent": True,
        "options": {"mode": "markdown", "content": content, "code": {"language": "plaintext", "showLineNumbers": False, "showMiniMap": False}},
    }


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"h": 1, "w": 24, "x": 0, "y": 0}}


def arranged(panels):
    """From left to right, line by line; a panel that does not fit begins a new line."""
    x = y = height = 0
    for number, made in enumerate(panels, 1):
        place = made["gridPos"]
        if x + place["w"] > 24:
            x, y, height = 0, y + height, 0
        place["x"], place["y"], made["id"] = x, y, number
        x, height = x + place["w"], max(height, place["h"])
    return panels


def variable(name, label, query):
    return {
        "type": "query", "name": name, "label": label, "datasource": SOURCE,
        "query": {"query": query, "refId": "StandardVariableQuery"}, "refresh": 2, "sort": 1, "multi": True, "includeAll": True,
        "allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]}, "options": [], "hide": 0, "regex": "", "skipUrlSync": False,
    }


def dashboard(name, description, panels, span="now-1h"):
    variables = [
        {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "refresh": 1, "regex": "", "hide": 0,
         "multi": False, "includeAll": False, "options": [], "current": {"text": "default", "value": "default"}, "skipUrlSync": False},
        variable("namespace", "Namespace", "label_values(larder_build_info, namespace)"),
        variable("pod", "Pod", 'label_values(larder_build_info{namespace=~"$namespace"}, pod)'),
    ]
    alerts = {
        "name": "Alerts", "datasource": SOURCE, "enable": True, "hide": False, "iconColor": "red", "titleFormat": "{{alertname}}",
        "expr": 'max by (alertname) (ALERTS{alertname=~"Larder.*", alertstate="firing"})',
    }
    link = {
        "title": "Larder", "type": "dashboards", "tags": ["larder"], "asDropdown": False, "includeVars": True, "keepTime": True,
        "targetBlank": False, "icon": "external link", "tooltip": "", "url": "",
    }
    return {
        "uid": f"larder-{name}", "title": f"Larder / {name.capitalize()}", "description": description, "tags": ["larder"],
        "schemaVersion": 41, "version": 1, "editable": False, "graphTooltip": 1, "timezone": "browser", "refresh": "10s",
        "time": {"from": span, "to": "now"}, "timepicker": {}, "fiscalYearStartMonth": 0, "liveNow": False, "weekStart": "", "links": [link],
        "annotations": {"list": [alerts]}, "templating": {"list": variables}, "panels": arranged(panels),
    }
