-- Names that projects claim. Several projects may claim one; at most one claim of a name is verified.
create table domains (
  id text primary key,
  project_id text not null references projects (id),
  hostname text not null,
  owner_kind text not null check (owner_kind in ('function', 'site')),
  owner_id text not null,
  method text not null check (method in ('TXT', 'CNAME', 'A')),
  token text not null,
  status text not null check (status in ('PENDING', 'VERIFIED', 'FAILED')),
  -- What the last check found amiss; null: nothing, or there was none.
  reason text,
  -- Checks in a row that found the proof of a verified name gone.
  misses integer not null default 0,
  verified_at integer,
  checked_at integer,
  -- When a verified name is checked again; null: by request only.
  next_check_at integer,
  -- The owner's own certificate. The key is sealed with the master key.
  certificate_chain text,
  certificate_key blob,
  certificate_not_after integer,
  created_at integer not null,
  updated_at integer not null,
  unique (project_id, hostname)
) strict;

create unique index domains_verified on domains (hostname) where status = 'VERIFIED';
create index domains_by_hostname on domains (hostname);
create index domains_by_owner on domains (owner_id);
create index domains_due on domains (next_check_at) where next_check_at is not null;

-- Who proved a name last, also after the claim is gone: DNS records that were left behind prove nothing for others.
create table domain_holders (
  hostname text primary key,
  project_id text not null,
  verified_at integer not null
) strict, without rowid;
