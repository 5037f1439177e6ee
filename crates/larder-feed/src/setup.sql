-- Larder: announce DDL in the change feed, also when the same transaction changes rows.
-- Optional: without it such DDL is noticed by comparing the catalog, within [freshness] ddl_check.
create schema if not exists larder;

create or replace function larder.announce_ddl() returns event_trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
  perform pg_catalog.pg_logical_emit_message(true, 'larder', tg_tag);
end
$$;

-- Not "create or replace": event triggers know no such thing.
drop event trigger if exists larder_ddl;
create event trigger larder_ddl on ddl_command_end execute function larder.announce_ddl();
drop event trigger if exists larder_drop;
create event trigger larder_drop on sql_drop execute function larder.announce_ddl();
drop event trigger if exists larder_rewrite;
create event trigger larder_rewrite on table_rewrite execute function larder.announce_ddl();
