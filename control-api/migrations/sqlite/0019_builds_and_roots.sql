-- Whose content is, by the CID of its root.
create index deployments_by_code on deployments (code_cid);
create index deployments_by_assets on deployments (assets_cid) where assets_cid is not null;
create index site_deployments_by_root on site_deployments (root_cid);

-- Which server builds, and until when it is believed to, milliseconds: it says so again and again while it works.
alter table builds add column server_id text;
alter table builds add column leased_until integer;
