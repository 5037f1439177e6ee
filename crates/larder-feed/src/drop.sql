drop event trigger if exists larder_rewrite;
drop event trigger if exists larder_drop;
drop event trigger if exists larder_ddl;
drop function if exists larder.announce_ddl();
drop schema if exists larder;
