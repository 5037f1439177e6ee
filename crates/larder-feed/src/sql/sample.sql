-- The snapshot is taken before the position is read: it may see less than the position covers, never more is claimed.
select /* by larder */ pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text, null::text, pg_current_wal_flush_lsn()::text
