//! An application's ordinary day with sqlx and its default settings.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use sqlx::{
    Column, Connection, Either, Executor, PgConnection, Row, TypeInfo, ValueRef,
    postgres::{PgListener, PgPoolOptions, PgRow},
};

use crate::tokio_postgres_script::{FAILURES, READS, RESET};

/// Runs the script and returns what it would print.
pub(crate) async fn run(url: &str) -> Result<String> {
    let mut out = String::new();
    let mut connection = PgConnection::connect(url).await?;
    connection.execute(RESET).await?;
    reads(&mut connection, &mut out).await?;
    writes_are_seen(&mut connection, url, &mut out).await?;
    transactions(&mut connection, &mut out).await?;
    failures(&mut connection, &mut out).await?;
    copies(&mut connection, &mut out).await?;
    pool(url, &mut out).await?;
    let mut listener = PgListener::connect(url).await?;
    listener.listen("news").await?;
    connection.execute("notify news, 'first'; select pg_notify('news', 'second')").await?;
    for _ in 0..2 {
        let news = listener.recv().await?;
        writeln!(out, "news: {} {}", news.channel(), news.payload())?;
    }
    connection.close().await?;
    Ok(out)
}

async fn reads(connection: &mut PgConnection, out: &mut String) -> Result<()> {
    for turn in 0..4 {
        for sql in READS {
            show(out, sql, &sqlx::query(sql).fetch_all(&mut *connection).await?)?; // prepared, and kept by the driver
            show(out, "once", &sqlx::query(sql).persistent(false).fetch_all(&mut *connection).await?)?;
            show(out, "simple", &sqlx::raw_sql(sql).fetch_all(&mut *connection).await?)?;
        }
        for id in [1_i32, 2, 99] {
            let query = sqlx::query("select * from app_users where id = $1").bind(id);
            show(out, "by id", &query.fetch_all(&mut *connection).await?)?;
        }
        let query = sqlx::query("select name from app_users where id = any($1) order by id").bind(vec![1, 3]);
        show(out, "array", &query.fetch_all(&mut *connection).await?)?;
        let query = sqlx::query("select count(*) from app_orders where note is not distinct from $1");
        show(out, "null", &query.bind(None::<&str>).fetch_all(&mut *connection).await?)?;
        let mut several =
            sqlx::raw_sql("select 1; update app_users set raw = raw; select 2").fetch_many(&mut *connection);
        while let Some(part) = several.try_next().await? {
            match part {
                Either::Left(done) => {
                    writeln!(out, "several {turn}: {} rows affected", done.rows_affected())?
                }
                Either::Right(row) => show(out, "several", &[row])?,
            }
        }
    }
    let described = connection.describe("select * from app_users where id = $1").await?;
    writeln!(out, "described: {:?} {:?}", described.columns().len(), described.parameters())?;
    Ok(())
}

async fn writes_are_seen(connection: &mut PgConnection, url: &str, out: &mut String) -> Result<()> {
    let mut other = PgConnection::connect(url).await?;
    let read = "select balance from app_users where id = 1";
    for turn in 0..20 {
        let update = sqlx::query("update app_users set balance = $1 where id = 1").bind(f64::from(turn));
        writeln!(out, "updated: {}", update.execute(&mut *connection).await?.rows_affected())?;
        show(out, "own write", &sqlx::query(read).fetch_all(&mut *connection).await?)?;
        show(out, "other's write", &sqlx::query(read).fetch_all(&mut other).await?)?;
    }
    Ok(other.close().await?)
}

async fn transactions(connection: &mut PgConnection, out: &mut String) -> Result<()> {
    let read = "select balance from app_users where id = 2";
    let mut transaction = connection.begin().await?;
    show(out, "read inside", &sqlx::query(read).fetch_all(&mut *transaction).await?)?;
    transaction.execute("update app_users set balance = -1 where id = 2").await?;
    show(out, "own write inside", &sqlx::query(read).fetch_all(&mut *transaction).await?)?;
    let mut savepoint = transaction.begin().await?;
    savepoint.execute("update app_users set balance = -2 where id = 2").await?;
    savepoint.rollback().await?;
    show(out, "after savepoint", &sqlx::query(read).fetch_all(&mut *transaction).await?)?;
    transaction.commit().await?;
    show(out, "committed", &sqlx::query(read).fetch_all(&mut *connection).await?)?;
    let mut transaction = connection.begin().await?;
    transaction.execute("delete from app_orders").await?;
    let count = "select count(*) from app_orders";
    show(out, "deleted inside", &sqlx::query(count).fetch_all(&mut *transaction).await?)?;
    drop(transaction); // rolls back with the next statement
    show(out, "rolled back", &sqlx::query(count).fetch_all(&mut *connection).await?)?;
    Ok(())
}

async fn failures(connection: &mut PgConnection, out: &mut String) -> Result<()> {
    for _ in 0..2 {
        for sql in FAILURES {
            let prepared = sqlx::query(sql).fetch_all(&mut *connection).await.err();
            let simple = sqlx::raw_sql(sql).fetch_all(&mut *connection).await.err();
            for error in [prepared, simple] {
                let error = error.context("it succeeds")?;
                writeln!(out, "{sql}: {:?}", error.as_database_error())?;
            }
        }
    }
    Ok(())
}

async fn copies(connection: &mut PgConnection, out: &mut String) -> Result<()> {
    let mut copy = connection.copy_in_raw("copy app_orders (id, user_id, amount) from stdin").await?;
    for i in 0..1000 {
        copy.send(format!("{}\t1\t{i}\n", 3000 + i).into_bytes()).await?;
    }
    writeln!(out, "copied in: {}", copy.finish().await?)?;
    let copy = connection
        .copy_out_raw("copy (select id, name from app_users order by id limit 3) to stdout")
        .await?;
    writeln!(out, "copied out: {:?}", copy.try_collect::<Vec<_>>().await?)?;
    show(out, "sum", &sqlx::query("select sum(amount) from app_orders").fetch_all(&mut *connection).await?)?;
    connection.execute("delete from app_orders where id >= 2000").await?;
    Ok(())
}

async fn pool(url: &str, out: &mut String) -> Result<()> {
    let pool = PgPoolOptions::new().max_connections(4).connect(url).await?;
    let queries = (0..60).map(|i| {
        let query = sqlx::query("select name from app_users where id = $1").bind(1 + i % 20);
        query.fetch_all(&pool)
    });
    for rows in futures_util::future::try_join_all(queries).await? {
        show(out, "pool", &rows)?;
    }
    pool.close().await;
    Ok(())
}

/// Columns and the bytes of all values, before the driver makes anything of them.
fn show(out: &mut String, label: &str, rows: &[PgRow]) -> Result<()> {
    let columns =
        rows.first().map(|r| r.columns().iter().map(|c| format!("{} {}", c.name(), c.type_info().name())));
    writeln!(out, "{label}: {:?}", columns.map(Vec::from_iter))?;
    for row in rows {
        for column in 0..row.len() {
            let value = row.try_get_raw(column)?;
            match value.is_null() {
                true => write!(out, "    null")?,
                false => write!(
                    out,
                    "    {:?}",
                    value.as_bytes().map(<[u8]>::escape_ascii).map(|b| b.to_string())
                )?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}
