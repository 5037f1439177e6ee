SELECT c.name, count(*) AS products, avg(p.price) AS price FROM categories c JOIN products p ON p.category = c.id GROUP BY c.name ORDER BY c.name;
