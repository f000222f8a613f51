-- A page of the feed is asked for by kind and revision. Without this, SQLite reads all of a kind for each page.
create unique index feed_by_kind on feed (kind, revision);
