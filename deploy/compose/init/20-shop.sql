-- Something to read: 20 categories, 10,000 products, and orders that keep arriving.
CREATE TABLE categories (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE products (
    id int PRIMARY KEY,
    category int NOT NULL REFERENCES categories,
    name text NOT NULL,
    price numeric(10, 2) NOT NULL
);
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product int NOT NULL REFERENCES products,
    quantity int NOT NULL,
    ordered_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO categories SELECT i, 'category ' || i FROM generate_series(1, 20) AS i;
INSERT INTO products SELECT i, 1 + i % 20, 'product ' || i, (i * 37 % 9000) / 100.0 + 1 FROM generate_series(1, 10000) AS i;
CREATE INDEX ON products (category);
GRANT SELECT ON categories, products TO app;
GRANT SELECT, INSERT ON orders TO app;
ANALYZE;
