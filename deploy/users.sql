-- The users that API and workers are in PostgreSQL, with their passwords, which stand in files of the folder that psql
-- is run in; and the database of people's keys, which the others' dumps leave out. The tables are the user cqrs's, who
-- also says what the others may do with them: `cqrs init`.
\set ON_ERROR_STOP on
SET log_min_error_statement = panic; -- a password in a statement never gets into the server's log
SELECT format('CREATE ROLE %I LOGIN', name)
  FROM unnest(ARRAY['cqrs_api', 'cqrs_command_worker', 'cqrs_projection_worker']) AS name
 WHERE name NOT IN (SELECT rolname FROM pg_roles) \gexec
\set password `cat api`
ALTER ROLE cqrs_api PASSWORD :'password';
\set password `cat command-worker`
ALTER ROLE cqrs_command_worker PASSWORD :'password';
\set password `cat projection-worker`
ALTER ROLE cqrs_projection_worker PASSWORD :'password';
SELECT :'DBNAME' || '_subjects' AS subjects \gset
SELECT format('CREATE DATABASE %I', :'subjects')
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'subjects') \gexec
REVOKE ALL ON DATABASE :"DBNAME", :"subjects", postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE :"DBNAME", :"subjects" TO cqrs_api, cqrs_command_worker, cqrs_projection_worker;
