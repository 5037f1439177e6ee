//! What the client path has to distinguish.

use larder_sql::{Begin, Kind, Parsed};

fn begin(deferrable: bool, names_read_committed: bool) -> Kind {
    Kind::Begin(Begin { deferrable, names_read_committed, tag: "BEGIN" })
}

#[test]
fn each_statement_has_its_kind() {
    for (sql, expected) in [
        ("SELECT 1", Kind::Select),
        ("  VALUES (1);", Kind::Select),
        ("TABLE users", Kind::Select),
        ("WITH a AS (SELECT 1) SELECT * FROM a UNION SELECT 2", Kind::Select),
        ("SELECT * FROM users FOR UPDATE", Kind::Select),
        ("INSERT INTO users VALUES (1)", Kind::Other),
        ("SELECT 1; SELECT 2", Kind::Other),
        ("BEGIN; COMMIT", Kind::Other),
        ("nonsense", Kind::Other),
        ("", Kind::Empty),
        (";;", Kind::Empty),
        ("-- only a comment", Kind::Empty),
        ("BEGIN", begin(true, false)),
        ("BEGIN WORK", begin(true, false)),
        ("BEGIN READ ONLY", begin(true, false)),
        ("BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE", begin(true, true)),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ", begin(false, false)),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", begin(false, false)),
        ("BEGIN ISOLATION LEVEL READ UNCOMMITTED", begin(false, false)),
        ("BEGIN ISOLATION LEVEL READ COMMITTED, ISOLATION LEVEL SERIALIZABLE", begin(false, false)),
        ("BEGIN DEFERRABLE", begin(false, false)),
        (
            "START TRANSACTION",
            Kind::Begin(Begin { deferrable: true, names_read_committed: false, tag: "START TRANSACTION" }),
        ),
        ("COMMIT", Kind::Commit),
        ("END", Kind::Commit),
        ("COMMIT AND NO CHAIN", Kind::Commit),
        ("COMMIT AND CHAIN", Kind::TransactionControl),
        ("ROLLBACK", Kind::Rollback),
        ("ABORT", Kind::Rollback),
        ("ROLLBACK AND CHAIN", Kind::TransactionControl),
        ("ROLLBACK TO SAVEPOINT a", Kind::TransactionControl),
        ("SAVEPOINT a", Kind::TransactionControl),
        ("RELEASE a", Kind::TransactionControl),
        ("PREPARE TRANSACTION 'a'", Kind::TransactionControl),
        ("COMMIT PREPARED 'a'", Kind::TransactionControl),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", Kind::TransactionControl),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Kind::TransactionControl),
        ("SET transaction_isolation = 'serializable'", Kind::TransactionControl),
        ("SET CONSTRAINTS ALL DEFERRED", Kind::TransactionControl),
        ("PREPARE a AS SELECT 1", Kind::PreparedStatements),
        ("EXECUTE a(1)", Kind::PreparedStatements),
        ("DEALLOCATE ALL", Kind::PreparedStatements),
        ("DISCARD ALL", Kind::PreparedStatements),
        ("SET larder.mode = 'bypass'", Kind::Other),
        ("SET larder.mode TO serve", Kind::Other),
        ("set LARDER.MODE = bypass", Kind::Other),
        ("SET SESSION larder.mode = 'bypass'", Kind::Other),
        ("SET LOCAL larder.mode = 'bypass'", Kind::Other),
        ("SET larder.mode = 'other'", Kind::Other),
        ("RESET larder.mode", Kind::Other),
        ("SET larder.mode TO DEFAULT", Kind::Other),
        ("SHOW larder.last", Kind::ShowLast),
        ("SHOW LARDER.LAST", Kind::ShowLast),
        ("SHOW larder.mode", Kind::Other),
        ("SET timezone = 'UTC'", Kind::Other),
        ("CREATE TABLE a (id int)", Kind::Other),
    ] {
        assert_eq!(Parsed::parse(sql).kind(), expected, "{sql}");
    }
}
