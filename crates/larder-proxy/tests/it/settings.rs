//! Two sessions that could get different bytes must not share. One test for each part of the key.

use larder_testkit::{Login, RawClient, each_version};

use crate::{rig, served, warm};

#[tokio::test]
async fn settings_that_change_bytes_part_the_answers() {
    each_version(async |origin| {
        let larder = rig(&origin).await;
        origin.sql("create table event(at timestamptz, raw bytea, f float8)").unwrap();
        origin.sql("insert into event values ('2024-02-03 04:05:06+00', '\\x01ff', 0.1)").unwrap();
        let sql = "select at, raw, f from event";
        let mut other = RawClient::superuser(larder.addr()).await.unwrap();
        warm(&mut other, sql).await;
        for setting in [
            "set timezone = 'Asia/Tokyo'",
            "set datestyle = 'German'",
            "set bytea_output = 'escape'",
            "set extra_float_digits = -3",
            "select set_config('TimeZone', 'America/Lima', false)",
        ] {
            let mut direct = RawClient::superuser(origin.addr()).await.unwrap();
            let mut client = RawClient::superuser(larder.addr()).await.unwrap();
            warm(&mut client, sql).await;
            direct.query(setting).await.unwrap();
            client.query(setting).await.unwrap();
            let expected = direct.rows(sql).await.unwrap();
            for _ in 0..3 {
                assert_eq!(client.rows(sql).await.unwrap(), expected, "{setting}");
            }
            warm(&mut client, sql).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_search_path_decides_which_table_is_meant() {
    each_version(async |origin| {
        let larder = rig(&origin).await;
        origin.sql("create schema s1").unwrap();
        origin.sql("create table s1.item(id int primary key, name text)").unwrap();
        origin.sql("insert into s1.item values (7, 'of s1')").unwrap();
        let sql = "select name from item where id = 7";
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        warm(&mut client, sql).await;
        client.query("set search_path = s1, public").await.unwrap();
        assert_eq!(client.value(sql).await.unwrap(), "of s1");
        assert_eq!(warm(&mut client, sql).await, [[Some("of s1".to_owned())]]);
        client.query("reset search_path").await.unwrap();
        assert_eq!(client.value(sql).await.unwrap(), "name 7");
        // A temporary table shadows the permanent one.
        client.query("create temporary table item(id int, name text)").await.unwrap();
        client.query("insert into item values (7, 'temporary')").await.unwrap();
        assert_eq!(client.value(sql).await.unwrap(), "temporary");
        assert_eq!(served(&mut client).await, "bypass; reason=temporary_table");
    })
    .await;
}

#[tokio::test]
async fn a_role_without_the_privilege_is_refused_whatever_others_cached() {
    each_version(async |origin| {
        let larder = rig(&origin).await;
        origin.sql("create role reader login").unwrap();
        let sql = "select name from item where id = 7";
        let mut owner = RawClient::superuser(larder.addr()).await.unwrap();
        warm(&mut owner, sql).await;
        let mut reader = RawClient::login(larder.addr(), &Login::new("reader", "postgres")).await.unwrap();
        let error = |frames: Vec<larder_testkit::Frame>| frames.iter().find_map(|frame| frame.field(b'C'));
        assert_eq!(error(reader.query(sql).await.unwrap()).as_deref(), Some("42501"));
        // SET ROLE is not reported to anybody.
        owner.query("set role reader").await.unwrap();
        assert_eq!(error(owner.query(sql).await.unwrap()).as_deref(), Some("42501"));
        owner.query("reset role").await.unwrap();
        assert_eq!(owner.value(sql).await.unwrap(), "name 7");
        origin.sql("grant select on item to reader").unwrap();
        warm(&mut reader, sql).await;
        owner.query("revoke select on item from reader").await.unwrap();
        assert_eq!(error(reader.query(sql).await.unwrap()).as_deref(), Some("42501"));
    })
    .await;
}

#[tokio::test]
async fn a_session_can_ask_to_be_left_alone() {
    each_version(async |origin| {
        let larder = rig(&origin).await;
        let sql = "select name from item where id = 7";
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        warm(&mut client, sql).await;
        client.query("set larder.mode = 'bypass'").await.unwrap();
        client.value(sql).await.unwrap();
        assert_eq!(served(&mut client).await, "bypass; reason=session_bypass");
        client.query("set larder.mode = 'serve'").await.unwrap();
        warm(&mut client, sql).await;
        client.value(&format!("/* larder: bypass */ {sql}")).await.unwrap();
        assert_eq!(served(&mut client).await, "bypass; reason=hint");
        // A setting like any other: whatever changes it is heeded, and whatever takes it back.
        let ways = [
            ("select set_config('larder.mode', 'bypass', false)", "reset larder.mode"),
            ("set larder.mode to bypass", "discard all"),
            ("set session larder.mode = 'bypass'", "reset all"),
            ("begin; set larder.mode = 'bypass'", "rollback"),
            ("begin; set local larder.mode = 'bypass'", "commit"),
        ];
        for (on, off) in ways {
            for statement in on.split("; ") {
                client.query(statement).await.unwrap();
            }
            client.value(sql).await.unwrap();
            assert_eq!(served(&mut client).await, "bypass; reason=session_bypass", "{on}");
            client.query(off).await.unwrap();
            warm(&mut client, sql).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_role_can_be_left_alone_for_good() {
    each_version(async |origin| {
        let larder = rig(&origin).await;
        let sql = "select name from item where id = 7";
        warm(&mut RawClient::superuser(larder.addr()).await.unwrap(), sql).await;
        origin
            .sql("create role careful superuser login; alter role careful set larder.mode = 'bypass'")
            .unwrap();
        let by_role = Login::new("careful", "postgres");
        let by_option = Login::new("postgres", "postgres").parameter("options", "-c larder.mode=bypass");
        for login in [by_role, by_option] {
            let mut client = RawClient::login(larder.addr(), &login).await.unwrap();
            // The new role begins an epoch, in whose first moments there is another reason.
            let mut left_alone = 0;
            while left_alone < 3 {
                client.value(sql).await.unwrap();
                let how = served(&mut client).await;
                assert!(how.starts_with("bypass"), "{login:?}: {how}");
                left_alone += u32::from(how == "bypass; reason=session_bypass");
            }
            client.query("set larder.mode = 'serve'").await.unwrap();
            warm(&mut client, sql).await;
        }
    })
    .await;
}

/// Asking for the effective search path would make the temporary schema that the path names first.
#[tokio::test]
async fn reading_the_settings_changes_nothing() {
    each_version(async |origin| {
        let larder = rig(&origin).await;
        for path in ["pg_temp", "'$user', pg_temp", "pg_temp, public"] {
            let mut client = RawClient::superuser(larder.addr()).await.unwrap();
            warm(&mut client, "select name from item where id = 7").await;
            client.query(&format!("set search_path = {path}")).await.unwrap();
            // That a name means nothing without a path is no reason of its own.
            let item = if path.ends_with("public") { "item" } else { "public.item" };
            client.query(&format!("select name from {item} where id = 7")).await.unwrap();
            assert_eq!(served(&mut client).await, "bypass; reason=settings_unknown");
            assert_eq!(client.value("select pg_my_temp_schema()").await.unwrap(), "0", "{path}");
            // Once it is there, what is in it shadows.
            client.query("create table item(id int, name text)").await.unwrap();
            client.query("insert into item values (7, 'temporary')").await.unwrap();
            assert_eq!(client.value("select name from item where id = 7").await.unwrap(), "temporary");
            assert!(served(&mut client).await.starts_with("bypass"));
        }
    })
    .await;
}
