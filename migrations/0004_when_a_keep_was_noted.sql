-- When `keep_until` was noted, by the server's clock of that moment: when that clock is set, it tells by which one.
alter table databases add column kept_at timestamptz;
update databases set kept_at = now() where keep_until is not null;
