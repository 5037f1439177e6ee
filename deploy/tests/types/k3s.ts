// What a HelmChart of k3s may say, as https://docs.k3s.io/add-ons/helm documents it; there is no package of these types.
export interface IHelmChart {
  apiVersion: "helm.cattle.io/v1";
  kind: "HelmChart";
  metadata: { name: string; namespace?: string; labels?: Record<string, string> };
  spec: {
    chart?: string;
    version?: string;
    repo?: string;
    targetNamespace?: string;
    createNamespace?: boolean;
    valuesContent?: string;
    set?: Record<string, string | number>;
    failurePolicy?: "abort" | "reinstall";
    timeout?: string;
    bootstrap?: boolean;
    chartContent?: string;
    dockerRegistrySecret?: { name: string };
  };
}
