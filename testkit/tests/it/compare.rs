//! Comparison finds what differs, and nothing else.

use larder_testkit::{Faulty, Script, Step, Target, Until, compare, frame, pg15, pg18, run};

fn script() -> Script {
    vec![
        Step::query("drop table if exists t; create table t (i int); insert into t values (1)"),
        Step::query("listen ch; notify ch, 'x'"),
        Step::extended("select $1::text, i from t", &[Some("a")]).until(Until::Tag(b'Z')),
        Step::messages(&[frame::query("selekt"), frame::query("select 2")]),
        Step::messages(&[frame::terminate()]).until(Until::Closed),
    ]
}

#[tokio::test]
async fn equal_servers_are_equal() {
    let pg = pg15();
    let relay = Faulty::new(pg.addr()).await.unwrap();
    let script: Script = vec![Step::query("select 1"), Step::query("selekt"), Step::query("notify c")];
    compare(&script, &Target::superuser(pg.addr()), &Target::superuser(relay.addr())).await;
}

#[tokio::test]
#[should_panic(expected = "differ at step 0, login")]
async fn different_servers_differ() {
    let (left, right) = (pg15(), pg18());
    compare(&[], &Target::superuser(left.addr()), &Target::superuser(right.addr())).await;
}

#[tokio::test]
async fn only_the_oids_of_tables_differ_in_a_script_that_makes_them() {
    let pg = pg18();
    let target = Target::superuser(pg.addr());
    run(&script(), &target).await.unwrap(); // the table is there from now on, so both are told the same
    let first = run(&script(), &target).await.unwrap();
    let second = run(&script(), &target).await.unwrap();
    assert_eq!(first[3].tags(), "12TDCZ");
    assert_ne!(first[3], second[3]);
    for (one, two) in first.into_iter().zip(second) {
        assert_eq!(one.without_table_oids(), two.without_table_oids());
    }
}
