//! What a metric is: one description for the endpoint, for docs/metrics.md and for the test that holds the two together.
//!
//! Every crate that measures something has a module `metrics` with its descriptions ([`metrics!`](crate::metrics!): the
//! help text is the doc comment) and a function that reads the values when somebody scrapes ([`Family`]). Only the
//! program knows how they are encoded.

/// A metric's description.
#[derive(Debug)]
pub struct Metric {
    /// As Prometheus shows it, without the suffixes of a histogram.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// One sentence or several, as they are in the doc comment.
    help: &'static str,
    /// In the order of the values in [`Family::series`].
    pub labels: &'static [Label],
}

/// What the values of a metric are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, but for a restart.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts of how long things took, by upper bounds.
    Histogram,
    /// Always 1: the labels say it.
    Info,
}

/// A label of a metric.
#[derive(Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Every value that it can have; `None`: not known before the program runs.
    pub values: Option<fn() -> Vec<&'static str>>,
}

/// A metric with its present values.
#[derive(Debug)]
pub struct Family {
    /// The description.
    pub metric: &'static Metric,
    /// Values of the labels, and the value.
    pub series: Vec<(Vec<&'static str>, Sample)>,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Sample {
    /// Of a counter or a gauge.
    Whole(u64),
    /// Of a counter or a gauge.
    Real(f64),
    /// Of a histogram.
    Histogram {
        /// Upper bounds, `f64::INFINITY` for the last, and what fell between the bound before and this one.
        buckets: Vec<(f64, u64)>,
        /// All that was measured, added up.
        sum: f64,
    },
}

impl Metric {
    /// For [`metrics!`](crate::metrics!).
    #[doc(hidden)]
    pub const fn new(name: &'static str, kind: Kind, help: &'static str, labels: &'static [Label]) -> Self {
        Self { name, kind, help, labels }
    }

    /// What it means.
    pub fn help(&self) -> &'static str {
        self.help.trim_ascii()
    }

    /// What it is measured in; Prometheus has base units only. Empty: a number of things, or a yes or no.
    pub fn unit(&self) -> &'static str {
        let name = self.name.trim_end_matches("_total");
        // "Seconds of the origin saved" is a time, too, though the name goes on.
        let known = [("_seconds", "seconds"), ("_bytes", "bytes"), ("_seconds_saved", "seconds")];
        known.iter().find(|(suffix, _)| name.ends_with(suffix)).map_or("", |(_, unit)| unit)
    }

    /// The name that encoders want, which add the suffix of the kind themselves.
    pub fn base_name(&self) -> &'static str {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.name.strip_suffix(suffix).unwrap_or(self.name)
    }

    /// It has no labels.
    pub fn is(&'static self, sample: Sample) -> Family {
        Family { metric: self, series: vec![(Vec::new(), sample)] }
    }

    /// It has one label.
    pub fn by(&'static self, series: impl IntoIterator<Item = (&'static str, Sample)>) -> Family {
        self.of(series.into_iter().map(|(value, sample)| ([value], sample)))
    }

    /// It has several.
    pub fn of<const N: usize>(
        &'static self,
        series: impl IntoIterator<Item = ([&'static str; N], Sample)>,
    ) -> Family {
        let series = series.into_iter().map(|(values, sample)| (values.to_vec(), sample)).collect();
        Family { metric: self, series }
    }
}

impl From<u64> for Sample {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<bool> for Sample {
    fn from(value: bool) -> Self {
        Self::Whole(u64::from(value))
    }
}

impl From<std::time::Duration> for Sample {
    fn from(value: std::time::Duration) -> Self {
        Self::Real(value.as_secs_f64())
    }
}

/// Describes a crate's metrics. Each becomes a static of that name, and `METRICS` names all of them.
///
/// A label's values are a list, an expression behind `in` that makes one, or `?` if they are not known beforehand.
#[macro_export]
macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $NAME:ident: $Kind:ident = $name:literal { $($label:ident: $values:tt),* })+) => {
        $(
            $(#[doc = $doc])+
            static $NAME: $crate::Metric = $crate::Metric::new(
                $name,
                $crate::metrics::Kind::$Kind,
                concat!($($doc),+),
                &[$($crate::metrics::Label { name: stringify!($label), values: $crate::label_values!($values) }),*],
            );
        )+

        /// All of them, in the order of the documentation.
        #[allow(unreachable_pub, reason = "who describes metrics in a private module uses this in its tests")]
        pub static METRICS: &[&$crate::Metric] = &[$(&$NAME),+];
    };
}

/// See [`metrics!`].
#[doc(hidden)]
#[macro_export]
macro_rules! label_values {
    ([$($value:literal),+]) => { Some(|| vec![$($value),+]) };
    (($values:expr)) => { Some(|| $values) };
    (?) => { None };
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::metrics! {
        /// How long it took. It may
        /// take long.
        TOOK: Histogram = "larder_took_seconds" { op: ["get", "put"], other: (vec!["a"]), version: ? }
        /// Done.
        DONE: Counter = "larder_done_total" {}
        /// Spared.
        SPARED: Counter = "larder_origin_seconds_saved_total" {}
        /// This.
        BUILD: Info = "larder_build_info" { version: ? }
    }

    #[test]
    fn a_description_is_what_its_comment_says() {
        assert_eq!(METRICS.len(), 4);
        assert_eq!((TOOK.help(), TOOK.unit()), ("How long it took. It may take long.", "seconds"));
        let values: Vec<_> = TOOK.labels.iter().map(|label| label.values.map(|values| values())).collect();
        assert_eq!(values, [Some(vec!["get", "put"]), Some(vec!["a"]), None]);
        assert_eq!((DONE.base_name(), DONE.unit()), ("larder_done", ""));
        assert_eq!((BUILD.base_name(), SPARED.unit()), ("larder_build", "seconds"));
        let family = TOOK.of([(["get", "a", "1"], 5.into())]);
        assert_eq!(family.series, [(vec!["get", "a", "1"], Sample::Whole(5))]);
    }
}
