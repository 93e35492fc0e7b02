-- A used service: two users are created, then the address of one of all those before is changed; and again.
-- :blocks is how often.

CREATE TEMP TABLE changes AS
    SELECT k, user, 1 + row_number() OVER (PARTITION BY user ORDER BY k) AS version FROM (
        WITH RECURSIVE blocks (k) AS (VALUES (0) UNION ALL SELECT k + 1 FROM blocks WHERE k + 1 < :blocks)
        SELECT k, 1 + (k * 2654435761) % (2 * k + 2) AS user FROM blocks);
CREATE TEMP TABLE change_of (k INTEGER PRIMARY KEY, user INTEGER, version INTEGER);
INSERT INTO change_of SELECT k, user, version FROM changes ORDER BY k;
CREATE TEMP TABLE handled (n INTEGER PRIMARY KEY, user INTEGER, version INTEGER, email TEXT);
INSERT INTO handled
    WITH RECURSIVE numbers (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 <= 3 * :blocks)
    SELECT n, coalesce(user, (n - 1) / 3 * 2 + n % 3), coalesce(version, 1),
           iif(n % 3, 'person', 'moved') || n || '@example.com'
    FROM numbers LEFT JOIN change_of ON n % 3 = 0 AND k = n / 3 - 1;
CREATE TEMP TABLE people (user INTEGER PRIMARY KEY, key BLOB);
INSERT INTO people SELECT user, randomblob(32) FROM (SELECT DISTINCT user FROM handled ORDER BY user);
INSERT INTO subjects.subject_keys (stream, key)
    SELECT 'user-' || user, wrapped(key, 'user-' || user) FROM people ORDER BY 'user-' || user;
CREATE TEMP VIEW commands_ AS
    SELECT *, 'user-' || user AS stream, printf('%08x-%04x-7000-8000-%012x', n / 65536, n % 65536, n) AS id,
           '{"user_id":' || user || '}' AS others,
           '{"first_name":"Zoë","last_name":"Müller-Lüdenscheidt","email":"' || email || '"}' AS person
    FROM handled JOIN people USING (user);

INSERT INTO main.events (position, stream, version, type, data, metadata, recorded_at)
    SELECT n, stream, version, iif(n % 3, 'UserCreated', 'UserEmailUpdated'),
           iif(n % 3,
               sealed(key, stream || ' 1 UserCreated', 'first_name,last_name,email', others, person),
               sealed(key, stream || ' ' || version || ' UserEmailUpdated', 'new_email', others,
                      '{"new_email":"' || email || '"}')),
           '{"command_id":"' || id || '"}', :at
    FROM commands_ ORDER BY n;
INSERT INTO main.outcomes (seq, status, version, position, handled_at)
    SELECT n, 'succeeded', version, n, :at FROM handled ORDER BY n;
INSERT INTO inbox.commands (seq, command_id, stream, type, data, accepted_at)
    SELECT n, id, stream, iif(n % 3, 'CreateUser', 'UpdateUserEmail'),
           iif(n % 3,
               sealed(key, stream || ' ' || id, 'first_name,last_name,email', others, person),
               sealed(key, stream || ' ' || id, 'email', others, '{"email":"' || email || '"}')), :at
    FROM commands_ ORDER BY n;
INSERT INTO inbox.sequences (name, value) VALUES ('seq', 3 * :blocks), ('user', 2 * :blocks);

CREATE TEMP TABLE last (user INTEGER PRIMARY KEY, version INTEGER, n INTEGER);
INSERT INTO last SELECT user, max(version), max(n) FROM handled GROUP BY user ORDER BY user;
INSERT INTO main.unique_keys (scope, value, stream)
    SELECT 'email', hashed(email) AS value, 'user-' || last.user FROM last JOIN handled USING (n) ORDER BY value;
INSERT INTO users.users (user_id, first_name, last_name, email, version)
    SELECT last.user, 'Zoë', 'Müller-Lüdenscheidt', email, last.version FROM last JOIN handled USING (n)
    ORDER BY last.user;
INSERT INTO emails.emails (user_id, first_name, last_name, email, version, key)
    SELECT user_id, first_name, last_name, email, version, email FROM users.users;
INSERT INTO stats.daily (day, users, changes) VALUES (substr(:at, 1, 10), 2 * :blocks, :blocks);
UPDATE users.checkpoints SET position = 3 * :blocks WHERE projection = 'users';
UPDATE emails.checkpoints SET position = 3 * :blocks WHERE projection = 'emails';
UPDATE stats.checkpoints SET position = 3 * :blocks WHERE projection = 'stats';
