-- The IPv6 network of 48 bits, or the IPv4 address, that a terminal asks from.
alter table logins add column prefix text;
create index logins_by_prefix on logins (prefix) where prefix is not null;

-- 1: a value that a preview brought with it and that was never its function's. null: from before this was written down.
alter table deployment_settings add column brought bigint check (brought in (0, 1));
