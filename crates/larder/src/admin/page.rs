//! `GET /`: the web page, one document that needs nothing else and may load nothing else.
//!
//! Its parts are joined here; the policy names them by their hashes, so that nothing but what was compiled in can run,
//! whatever text a query, a table or an application may bring.

use std::sync::LazyLock;

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

const DOCUMENT: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/style.css");
/// In the order in which they need each other.
const SCRIPT: &str = concat!(
    "\"use strict\";\n",
    include_str!("page/units.js"),
    include_str!("page/elements.js"),
    include_str!("page/state.js"),
    include_str!("page/charts.js"),
    include_str!("page/tables.js"),
    include_str!("page/actions.js"),
    include_str!("page/main.js"),
);

static PAGE: LazyLock<String> =
    LazyLock::new(|| DOCUMENT.replace("/* style */", STYLE).replace("/* script */", SCRIPT));

static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
        hash(SCRIPT),
        hash(STYLE)
    )
});

/// As a policy names a text.
fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(digest(&SHA256, text.as_bytes())))
}

pub(super) async fn page() -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (CACHE_CONTROL, "no-cache"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, PAGE.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_asks_for_nothing_else() {
        // What the policy's hashes are of is exactly what stands between the tags.
        assert!(PAGE.contains(&format!("<style>{STYLE}</style>")));
        assert!(PAGE.contains(&format!("<script>{SCRIPT}</script>")));
        assert!(!SCRIPT.contains("</script") && !STYLE.contains("</style"));
        for outside in [
            "src=\"http",
            "href=\"http",
            "@import",
            "url(http",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "eval(",
        ] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
    }
}
