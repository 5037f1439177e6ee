\set id random_zipfian(1, 10000, 1.1)
SELECT id, name, price FROM products WHERE id = :id;
