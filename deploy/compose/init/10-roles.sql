-- The accounts of the development database. Larder's own needs REPLICATION and CONNECT, nothing else.
CREATE ROLE larder LOGIN REPLICATION PASSWORD 'larder';
CREATE ROLE app LOGIN PASSWORD 'app';
CREATE ROLE monitor LOGIN PASSWORD 'monitor' IN ROLE pg_monitor;
