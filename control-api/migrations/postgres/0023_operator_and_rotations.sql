-- Whom the first start made, who manages what is the platform's. Where there are users already: the oldest id, which was asked before.
alter table users add column operator bigint not null default 0 check (operator in (0, 1));
update users set operator = 1 where id = (select min(id) from users);
create unique index users_operator on users (operator) where operator = 1;

-- How often a token got another secret: what was exchanged for one of before ends with it.
alter table tokens add column rotations bigint not null default 0;
