\set id random(1, 10000)
INSERT INTO orders (product, quantity) VALUES (:id, 1);
