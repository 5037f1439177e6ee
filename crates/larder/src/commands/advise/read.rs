//! What a database has counted: its statements (`pg_stat_statements`) and the use of its tables.

use std::collections::HashMap;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

/// One statement, its constants replaced by `$1`, `$2`, ...
#[derive(Debug, Clone)]
pub(super) struct Statement {
    pub(super) text: String,
    pub(super) calls: u64,
    /// Time of execution, in seconds.
    pub(super) seconds: f64,
}

/// How a table was used, since its statistics began.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// Scans, by index or not.
    pub(super) reads: u64,
    /// Rows inserted, updated and deleted.
    pub(super) writes: u64,
    /// Those of them that were there before: updated and deleted.
    pub(super) changes: u64,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) database: String,
    pub(super) version: String,
    /// When the statistics of statements begin, if that is known.
    pub(super) since: Option<String>,
    pub(super) statements: Vec<Statement>,
    /// Statements whose text this account may not see.
    pub(super) hidden: Option<Statement>,
    /// By OID.
    pub(super) tables: HashMap<u32, Usage>,
}

const MISSING: &str = "\
pg_stat_statements is not installed in this database, and without it nobody knows what is asked of it
  -> in postgresql.conf, or by your provider's parameters: shared_preload_libraries = 'pg_stat_statements', and a restart
  -> CREATE EXTENSION pg_stat_statements;
  -> let a usual day go by, then ask again";

const NOT_LOADED: &str = "\
pg_stat_statements is installed in this database, but the server has not loaded it, so nothing is counted
  -> in postgresql.conf, or by your provider's parameters: shared_preload_libraries = 'pg_stat_statements', and a restart";

/// In every statement that Larder asks by itself: they are no part of what the database is asked by others. Not at the
/// beginning, where PostgreSQL 18 does not count a comment to the statement.
const OWN: &str = "/* by larder";

/// Stands in place of a text that somebody else's statement has.
const HIDDEN: &str = "<insufficient privilege>";

/// Reads everything, in the database that the client is connected to.
pub(super) async fn observe(client: &Client) -> anyhow::Result<Observed> {
    let row = client
        .query_one("SELECT /* by larder */ current_database()::text, current_setting('server_version')", &[])
        .await?;
    let (database, version) = (row.try_get(0)?, row.try_get(1)?);
    let schema = client
        .query_opt(
            "SELECT /* by larder */ quote_ident(n.nspname) FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace
             WHERE x.extname = 'pg_stat_statements'",
            &[],
        )
        .await?;
    let Some(schema) = schema else { anyhow::bail!(MISSING) };
    let schema: String = schema.try_get(0)?;
    let (statements, hidden) = statements(client, &schema).await?;
    Ok(Observed {
        database,
        version,
        since: since(client, &schema).await,
        statements,
        hidden,
        tables: tables(client).await?,
    })
}

async fn statements(client: &Client, schema: &str) -> anyhow::Result<(Vec<Statement>, Option<Statement>)> {
    // `toplevel` is not in old versions of the extension; what runs inside functions is counted with their callers.
    let sql = format!(
        "SELECT /* by larder */ s.query, sum(s.calls)::int8, sum(s.total_exec_time)::float8
         FROM {schema}.pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
         WHERE d.datname = current_database() AND s.query IS NOT NULL
           AND s.query NOT LIKE '%{OWN}%'
           AND coalesce((to_jsonb(s) ->> 'toplevel')::bool, true)
         GROUP BY s.query"
    );
    let rows = client.query(&sql, &[]).await.map_err(|error| not_loaded(&error).unwrap_or(error.into()))?;
    let mut statements = Vec::new();
    let mut hidden = None;
    for row in rows {
        let calls = u64::try_from(row.try_get::<_, i64>(1)?).unwrap_or_default();
        let seconds = row.try_get::<_, f64>(2)? / 1e3;
        let statement = Statement { text: row.try_get(0)?, calls, seconds };
        if statement.text == HIDDEN { hidden = Some(statement) } else { statements.push(statement) }
    }
    Ok((statements, hidden))
}

fn not_loaded(error: &Error) -> Option<anyhow::Error> {
    let is = error.code() == Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
    is.then(|| anyhow::anyhow!(NOT_LOADED))
}

async fn since(client: &Client, schema: &str) -> Option<String> {
    let sql = format!(
        "SELECT /* by larder */ to_char(stats_reset, 'YYYY-MM-DD HH24:MI') FROM {schema}.pg_stat_statements_info"
    );
    client.query_one(&sql, &[]).await.ok()?.try_get(0).ok()
}

async fn tables(client: &Client) -> anyhow::Result<HashMap<u32, Usage>> {
    let sql = "SELECT /* by larder */ relid, coalesce(seq_scan, 0) + coalesce(idx_scan, 0), n_tup_ins + n_tup_upd + n_tup_del, n_tup_upd + n_tup_del
               FROM pg_stat_user_tables";
    let mut tables = HashMap::new();
    for row in client.query(sql, &[]).await? {
        let count =
            |column| row.try_get::<_, i64>(column).map(|count| u64::try_from(count).unwrap_or_default());
        tables.insert(row.try_get(0)?, Usage { reads: count(1)?, writes: count(2)?, changes: count(3)? });
    }
    Ok(tables)
}
