//! The demo's database, a small shop, and the statements of its load.
//!
//! Every row carries two counters. `version` is incremented by writers that go through Larder, `side_version` by one
//! that goes around it; so whoever reads a row knows which of both kinds of writes the answer includes.

use tokio_postgres::Client;

/// Sizes of the tables. The dashboard reads every order, so their number sets what an aggregate costs.
pub(super) const CUSTOMERS: i32 = 5_000;
pub(super) const PRODUCTS: i32 = 1_000;
pub(super) const ORDERS: i32 = 200_000;
/// The load works on this many customers and products: a working set that repeats, as in any application.
pub(super) const HOT: i32 = 40;
/// The list shows a customer's latest orders.
pub(super) const LISTED: usize = 10;

/// A write that is rolled back sets `version` to at least this: nobody may ever read it.
pub(super) const UNCOMMITTED: i64 = 1_000_000;

/// Tables and rows. Customer `c` has the orders `c`, `c + CUSTOMERS`, `c + 2 * CUSTOMERS`, ...
pub(super) async fn seed(client: &Client) -> Result<(), tokio_postgres::Error> {
    let versions = "version int NOT NULL DEFAULT 0, side_version int NOT NULL DEFAULT 0";
    let sql = format!(
        "CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, country text NOT NULL, {versions});
         CREATE TABLE products (id int PRIMARY KEY, name text NOT NULL, price_cents int NOT NULL, {versions});
         CREATE TABLE orders (id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customers,
             product_id int NOT NULL REFERENCES products, quantity int NOT NULL, status text NOT NULL,
             amount_cents int NOT NULL, {versions});
         INSERT INTO customers SELECT n, 'Customer ' || n,
             (ARRAY['Chile', 'Ghana', 'Japan', 'Kenya', 'Norway', 'Peru', 'Spain'])[1 + n % 7]
             FROM generate_series(1, {CUSTOMERS}) n;
         INSERT INTO products SELECT n, 'Product ' || n, 100 + n * 37 % 9900 FROM generate_series(1, {PRODUCTS}) n;
         INSERT INTO orders SELECT n, 1 + (n - 1) % {CUSTOMERS}, 1 + n * 7919 % {PRODUCTS}, 1 + n % 5,
             (ARRAY['open', 'paid', 'shipped', 'returned'])[1 + n % 4], 100 + n * 37 % 99000
             FROM generate_series(1, {ORDERS}) n;
         CREATE INDEX ON orders (customer_id);
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app;"
    );
    client.batch_execute(&sql).await?;
    client.batch_execute("VACUUM ANALYZE").await
}

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Ask {
    /// One product by key, prepared.
    Point(i32),
    /// A customer's latest orders with their products, prepared.
    List(i32),
    /// Revenue by status over all orders, simple protocol.
    Dashboard,
    /// A customer by key inside a transaction, as ORMs do it, prepared.
    Orm(i32),
}

/// The shapes of [`Ask`], for statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Point,
    List,
    Dashboard,
    Orm,
}

impl Shape {
    pub(super) const ALL: [Self; 4] = [Self::Point, Self::List, Self::Dashboard, Self::Orm];

    /// For people.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Point => "product by key",
            Self::List => "orders of a customer",
            Self::Dashboard => "revenue dashboard",
            Self::Orm => "ORM transaction",
        }
    }

    /// For programs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Point => "point",
            Self::List => "list",
            Self::Dashboard => "dashboard",
            Self::Orm => "orm",
        }
    }

    /// One read of this shape from the working set.
    pub(super) fn pick(self) -> Ask {
        // Squaring favours the low numbers: some products are more popular than others.
        let uniform = fastrand::f64();
        #[allow(clippy::cast_possible_truncation)]
        let id = 1 + (uniform * uniform * f64::from(HOT)) as i32;
        match self {
            Self::Point => Ask::Point(id),
            Self::List => Ask::List(id),
            Self::Dashboard => Ask::Dashboard,
            Self::Orm => Ask::Orm(id),
        }
    }

    /// Every read of this shape in the working set.
    pub(super) fn all(self) -> Vec<Ask> {
        match self {
            Self::Point => (1..=HOT).map(Ask::Point).collect(),
            Self::List => (1..=HOT).map(Ask::List).collect(),
            Self::Dashboard => vec![Ask::Dashboard],
            Self::Orm => (1..=HOT).map(Ask::Orm).collect(),
        }
    }
}

impl Ask {
    pub(super) fn shape(self) -> Shape {
        match self {
            Self::Point(_) => Shape::Point,
            Self::List(_) => Shape::List,
            Self::Dashboard => Shape::Dashboard,
            Self::Orm(_) => Shape::Orm,
        }
    }
}

pub(super) const POINT: &str =
    "SELECT id, name, price_cents, version, side_version FROM products WHERE id = $1";
pub(super) const LIST: &str = "SELECT o.id, o.status, o.quantity, p.name, p.price_cents, o.version, o.side_version \
     FROM orders o JOIN products p ON p.id = o.product_id WHERE o.customer_id = $1 ORDER BY o.id DESC LIMIT 10";
pub(super) const DASHBOARD: &str = "SELECT status, count(*) AS orders, sum(amount_cents) AS revenue_cents, \
     avg(quantity)::numeric(6,3) AS mean_quantity, sum(version) AS version, sum(side_version) AS side_version \
     FROM orders GROUP BY status ORDER BY status";
pub(super) const ORM: &str = "SELECT id, name, country, version, side_version FROM customers WHERE id = $1";

/// Where a writer changes something; each write increments a counter of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Product(i32),
    Order(i32),
    Customer(i32),
}

impl Target {
    /// One row of the working set. Orders are chosen among those that the lists show.
    pub(super) fn pick() -> Self {
        let id = fastrand::i32(1..=HOT);
        match fastrand::u8(0..3) {
            0 => Self::Product(id),
            1 => Self::Order(fastrand::choice(listed_orders(id)).unwrap_or(id)),
            _ => Self::Customer(id),
        }
    }

    /// The read that shows this row.
    pub(super) fn shown_by(self) -> Ask {
        match self {
            Self::Product(id) => Ask::Point(id),
            Self::Order(id) => Ask::List(1 + (id - 1) % CUSTOMERS),
            Self::Customer(id) => Ask::Orm(id),
        }
    }

    /// The statement that increments `column`, answering with its new value.
    pub(super) fn update(self, column: &str) -> String {
        let (table, id) = match self {
            Self::Product(id) => ("products", id),
            Self::Order(id) => ("orders", id),
            Self::Customer(id) => ("customers", id),
        };
        format!("UPDATE {table} SET {column} = {column} + 1 WHERE id = {id} RETURNING {column}")
    }

    /// A statement whose effect nobody may ever see, because it is rolled back.
    pub(super) fn update_in_vain(self) -> String {
        self.update("version").replace("version + 1", &format!("version + {UNCOMMITTED}"))
    }
}

/// The orders that [`LIST`] shows for a customer, newest first.
pub(super) fn listed_orders(customer: i32) -> Vec<i32> {
    let newest = customer + (ORDERS / CUSTOMERS - 1) * CUSTOMERS;
    (0..).map(|back| newest - back * CUSTOMERS).take(LISTED).collect()
}
