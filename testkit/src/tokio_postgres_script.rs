//! An application's ordinary day with tokio-postgres and its default settings.

use std::fmt::Write as _;

use anyhow::Result;
use futures_util::{SinkExt, StreamExt, TryStreamExt, future::try_join_all, pin_mut};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, IsolationLevel, NoTls, Row, SimpleQueryMessage, types::ToSql};

pub(crate) const RESET: &str = "
drop table if exists app_orders, app_users;
create table app_users (id int primary key, name text not null, email text unique, balance float8 default 0, raw bytea);
create table app_orders (id int primary key, user_id int references app_users, amount int, note text);
insert into app_users select i, 'user ' || i, 'user' || i || '@example.org', i * 1.5, decode('00ff', 'hex')
    from generate_series(1, 20) i;
insert into app_orders select i, 1 + i % 20, i * 7 % 13, nullif('note ' || i % 3, 'note 0') from generate_series(1, 100) i;
";

pub(crate) const READS: [&str; 6] = [
    "select 1 as one, null as nothing",
    "select * from app_users order by id",
    "select u.name, o.id, o.note from app_users u join app_orders o on o.user_id = u.id where o.amount > 10 order by o.id",
    "select user_id, count(*), sum(amount) from app_orders group by user_id order by 1",
    "select * from app_users where false",
    "select id, rank() over (order by amount desc, id) from app_orders order by id limit 5",
];

pub(crate) const FAILURES: [&str; 5] = [
    "selekt 1",
    "select * from no_such_table",
    "select 1 / (id - id) from app_users",
    "insert into app_users (id, name) values (1, 'again')",
    "insert into app_orders (id, user_id) values (1000, 1000)",
];

/// Runs the script and returns what it would print.
pub(crate) async fn run(url: &str) -> Result<String> {
    let (mut client, mut news) = connect(url).await?;
    let mut out = String::new();
    client.batch_execute(RESET).await?;
    reads(&client, &mut out).await?;
    writes_are_seen(&client, url, &mut out).await?;
    transactions(&mut client, &mut out).await?;
    failures(&client, &mut out).await?;
    copies(&client, &mut out).await?;
    client.batch_execute("do $$ begin raise notice 'noticed'; end $$; listen news").await?;
    let (other, _) = connect(url).await?;
    other.batch_execute("notify news, 'first'; select pg_notify('news', 'second')").await?;
    for _ in 0..3 {
        writeln!(out, "news: {:?}", news.recv().await)?;
    }
    Ok(out)
}

/// A client, and its notices and notifications as text.
async fn connect(url: &str) -> Result<(Client, mpsc::UnboundedReceiver<String>)> {
    let (client, mut connection) = tokio_postgres::connect(url, NoTls).await?;
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = futures_util::stream::poll_fn(|context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            let text = match message {
                AsyncMessage::Notice(notice) => notice.to_string(),
                AsyncMessage::Notification(n) => format!("{} {}", n.channel(), n.payload()),
                _ => continue,
            };
            let _ = sender.send(text); // nobody listens to the other clients'
        }
    });
    Ok((client, receiver))
}

async fn reads(client: &Client, out: &mut String) -> Result<()> {
    let by_id = client.prepare("select * from app_users where id = $1").await?;
    for turn in 0..4 {
        for sql in READS {
            show(out, sql, &client.query(sql, &[]).await?)?;
            for message in client.simple_query(sql).await? {
                writeln!(out, "simple {turn}: {}", simple(&message))?;
            }
        }
        for id in [1_i32, 2, 99] {
            show(out, "prepared", &client.query(&by_id, &[&id]).await?)?;
            show(out, "by id", &client.query("select name from app_users where id = $1", &[&id]).await?)?;
        }
        let none: Option<&str> = None;
        let sql = "select count(*) from app_orders where note is not distinct from $1";
        show(out, "null", &client.query(sql, &[&none]).await?)?;
        // Sent without waiting for each other: the driver pipelines them.
        let ids: Vec<i32> = (1..=5).collect();
        let answers = try_join_all(ids.iter().map(|id| {
            let parameters: [&(dyn ToSql + Sync); 1] = [id];
            let by_id = &by_id;
            async move { client.query_one(by_id, &parameters).await }
        }));
        show(out, "pipelined", &answers.await?)?;
    }
    Ok(())
}

async fn writes_are_seen(client: &Client, url: &str, out: &mut String) -> Result<()> {
    let (other, _) = connect(url).await?;
    let read = "select balance from app_users where id = 1";
    for turn in 0..20 {
        let balance = f64::from(turn);
        let count = client.execute("update app_users set balance = $1 where id = 1", &[&balance]).await?;
        writeln!(out, "updated: {count}")?;
        show(out, "own write", &client.query(read, &[]).await?)?;
        show(out, "other's write", &other.query(read, &[]).await?)?;
    }
    let sql = "insert into app_users (id, name) values (500, 'new') returning *";
    show(out, "returning", &client.query(sql, &[]).await?)?;
    show(out, "inserted", &other.query("select count(*) from app_users", &[]).await?)?;
    client.execute("delete from app_users where id = 500", &[]).await?;
    show(out, "deleted", &other.query("select count(*) from app_users", &[]).await?)
}

async fn transactions(client: &mut Client, out: &mut String) -> Result<()> {
    let read = "select balance from app_users where id = 2";
    let mut transaction = client.transaction().await?;
    show(out, "read inside", &transaction.query(read, &[]).await?)?;
    transaction.execute("update app_users set balance = -1 where id = 2", &[]).await?;
    show(out, "own write inside", &transaction.query(read, &[]).await?)?;
    let savepoint = transaction.savepoint("s").await?;
    savepoint.execute("update app_users set balance = -2 where id = 2", &[]).await?;
    savepoint.rollback().await?;
    show(out, "after savepoint", &transaction.query(read, &[]).await?)?;
    let portal = transaction.bind("select id from app_orders order by id", &[]).await?;
    show(out, "portal", &transaction.query_portal(&portal, 3).await?)?;
    show(out, "portal", &transaction.query_portal(&portal, 2).await?)?;
    transaction.commit().await?;
    show(out, "committed", &client.query(read, &[]).await?)?;
    let serializable =
        client.build_transaction().isolation_level(IsolationLevel::Serializable).read_only(true);
    let transaction = serializable.start().await?;
    show(out, "serializable", &transaction.query(read, &[]).await?)?;
    transaction.rollback().await?;
    let transaction = client.transaction().await?;
    transaction.execute("delete from app_orders", &[]).await?;
    show(out, "deleted inside", &transaction.query("select count(*) from app_orders", &[]).await?)?;
    drop(transaction); // rolls back
    show(out, "rolled back", &client.query("select count(*) from app_orders", &[]).await?)?;
    let transaction = client.transaction().await?;
    let first = transaction.query("select 1 / 0", &[]).await.unwrap_err();
    let second = transaction.query("select 1", &[]).await.unwrap_err();
    writeln!(out, "failed transaction: {:?} {:?}", first.as_db_error(), second.as_db_error())?;
    Ok(transaction.rollback().await?)
}

async fn failures(client: &Client, out: &mut String) -> Result<()> {
    for _ in 0..2 {
        for sql in FAILURES {
            let extended = client.query(sql, &[]).await.unwrap_err();
            let simple = client.simple_query(sql).await.unwrap_err();
            writeln!(out, "{sql}: {:?}\n{:?}", extended.as_db_error(), simple.as_db_error())?;
        }
    }
    Ok(())
}

async fn copies(client: &Client, out: &mut String) -> Result<()> {
    let sink = client.copy_in("copy app_orders (id, user_id, amount) from stdin").await?;
    pin_mut!(sink);
    for i in 0..1000 {
        sink.send(bytes::Bytes::from(format!("{}\t1\t{i}\n", 3000 + i))).await?;
    }
    writeln!(out, "copied in: {}", sink.finish().await?)?;
    show(out, "copied", &client.query("select count(*), sum(amount) from app_orders", &[]).await?)?;
    let stream =
        client.copy_out("copy (select id, name from app_users order by id limit 3) to stdout").await?;
    let pieces: Vec<bytes::Bytes> = stream.try_collect().await?;
    writeln!(out, "copied out: {pieces:?}")?;
    writeln!(out, "deleted: {}", client.execute("delete from app_orders where id >= 2000", &[]).await?)?;
    Ok(())
}

/// Columns and the bytes of all values, before the driver makes anything of them.
fn show(out: &mut String, label: &str, rows: &[Row]) -> Result<()> {
    let columns =
        rows.first().map(|r| r.columns().iter().map(|c| format!("{} {}", c.name(), c.type_())).collect());
    let columns: Vec<String> = columns.unwrap_or_default();
    writeln!(out, "{label}: {columns:?}")?;
    for row in rows {
        let values: Vec<String> = (0..row.len()).map(|i| raw(row, i)).collect();
        writeln!(out, "    {}", values.join(" "))?;
    }
    Ok(())
}

fn raw(row: &Row, column: usize) -> String {
    let bytes: Option<RawValue<'_>> = row.get(column);
    bytes.map_or_else(|| "null".into(), |b| b.0.escape_ascii().to_string())
}

fn simple(message: &SimpleQueryMessage) -> String {
    match message {
        SimpleQueryMessage::Row(row) => {
            format!("{:?}", (0..row.len()).map(|i| row.get(i)).collect::<Vec<_>>())
        }
        SimpleQueryMessage::CommandComplete(count) => format!("{count} rows"),
        SimpleQueryMessage::RowDescription(columns) => {
            format!("{:?}", columns.iter().map(|c| c.name()).collect::<Vec<_>>())
        }
        _ => "something else".into(),
    }
}

/// The bytes of a value of any type.
struct RawValue<'a>(&'a [u8]);

impl<'a> tokio_postgres::types::FromSql<'a> for RawValue<'a> {
    fn from_sql(
        _: &tokio_postgres::types::Type,
        raw: &'a [u8],
    ) -> std::result::Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &tokio_postgres::types::Type) -> bool {
        true
    }
}
