// A dashboard as Grafana's own packages describe it: the model as a whole, and of each kind of panel its options and fields.
// Generated types spell words as enums; in a file they are plain text.
import type { AnnotationQuery, Dashboard as Model, Panel, RowPanel } from "@grafana/schema/dist/types/raw/dashboard/x/dashboard_types.gen.d.ts";
import type * as bargauge from "@grafana/schema/dist/types/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen.d.ts";
import type * as heatmap from "@grafana/schema/dist/types/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen.d.ts";
import type * as stat from "@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen.d.ts";
import type * as timeline from "@grafana/schema/dist/types/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen.d.ts";
import type * as table from "@grafana/schema/dist/types/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen.d.ts";
import type * as text from "@grafana/schema/dist/types/raw/composable/text/panelcfg/x/TextPanelCfg_types.gen.d.ts";
import type * as series from "@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen.d.ts";

type Plain<T> = T extends string ? `${T}` : T extends (infer E)[] ? Plain<E>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;

interface Query {
  refId: string;
  datasource: { type: "prometheus"; uid: string };
  expr: string;
  legendFormat: string;
  format?: "time_series" | "table" | "heatmap";
  instant?: boolean;
  range?: boolean;
}

type Fields = Plain<NonNullable<Panel["fieldConfig"]>>;
type Of<Kind extends string, Options, Custom = unknown> = Omit<Plain<Panel>, "type" | "options" | "fieldConfig" | "targets"> & {
  type: Kind;
  options: Partial<Plain<Options>>;
  fieldConfig?: Omit<Fields, "defaults"> & { defaults: Omit<Fields["defaults"], "custom"> & { custom?: Partial<Plain<Custom>> } };
  targets?: Query[];
};

type Known =
  | Of<"bargauge", bargauge.Options>
  | Of<"heatmap", heatmap.Options, heatmap.FieldConfig>
  | Of<"stat", stat.Options>
  | Of<"state-timeline", timeline.Options, timeline.FieldConfig>
  | Of<"table", table.Options, table.FieldConfig>
  | Of<"text", text.Options>
  | Of<"timeseries", series.Options, series.FieldConfig>
  | Plain<RowPanel>;

// What Prometheus' annotations have beyond others.
type Annotation = Plain<AnnotationQuery> & { expr: string; titleFormat: string };

export type Dashboard = Omit<Plain<Model>, "annotations" | "panels"> & { annotations: { list: Annotation[] }; panels: Known[] };
