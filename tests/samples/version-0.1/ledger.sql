PRAGMA application_id = 1835624306;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE before (item INTEGER PRIMARY KEY, url TEXT NOT NULL, image BLOB NOT NULL) STRICT;
CREATE TABLE item (
    item INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    begun_ms INTEGER,
    status TEXT,
    method TEXT,
    url TEXT,
    http_status INTEGER,
    request_id TEXT,
    finished_ms INTEGER,
    duration_ms REAL,
    waited_ms REAL,
    verified INTEGER,
    quota_limit INTEGER,
    quota_remaining INTEGER,
    quota_reset_s REAL,
    error_kind TEXT,
    provisional INTEGER,
    error TEXT,
    sequence INTEGER,
    CHECK (item > 0)
) STRICT;
INSERT INTO "item" VALUES(1,'i-00001',1,NULL,'succeeded','PATCH','http://127.0.0.1:1/notifications/v1/integrations/i-00001',200,'req-00000001',1795549899330,105.1,1.0,1,NULL,NULL,NULL,NULL,0,NULL,1);
INSERT INTO "item" VALUES(2,'i-00002',1,NULL,'succeeded','PATCH','http://127.0.0.1:1/notifications/v1/integrations/i-00002',200,'req-00000002',1795549899584,104.5,132.4,1,NULL,NULL,NULL,NULL,0,NULL,2);
INSERT INTO "item" VALUES(3,'i-00003',1,NULL,'succeeded','PATCH','http://127.0.0.1:1/notifications/v1/integrations/i-00003',200,'req-00000003',1795549899827,101.9,377.7,1,NULL,NULL,NULL,NULL,0,NULL,3);
INSERT INTO "item" VALUES(4,'i-00004',1,NULL,'succeeded','PATCH','http://127.0.0.1:1/notifications/v1/integrations/i-00004',200,'req-00000004',1795549900078,102.0,628.3,1,NULL,NULL,NULL,NULL,0,NULL,4);
INSERT INTO "item" VALUES(5,'i-00005',1,NULL,'succeeded','PATCH','http://127.0.0.1:1/notifications/v1/integrations/i-00005',200,'req-00000005',1795549900327,101.8,878.4,1,NULL,NULL,NULL,NULL,0,NULL,5);
INSERT INTO "item" VALUES(6,'i-00006',1,NULL,'succeeded','PATCH','http://127.0.0.1:1/notifications/v1/integrations/i-00006',200,'req-00000006',1795549900581,101.7,1132.3,1,NULL,NULL,NULL,NULL,0,NULL,6);
INSERT INTO "item" VALUES(7,'i-00007',1,NULL,'succeeded','PATCH','http://127.0.0.1:1/notifications/v1/integrations/i-00007',200,'req-00000007',1795549900827,101.7,1378.1,1,NULL,NULL,NULL,NULL,0,NULL,7);
INSERT INTO "item" VALUES(8,'i-00008',1,NULL,'succeeded','PATCH','http://127.0.0.1:1/notifications/v1/integrations/i-00008',200,'req-00000008',1795549901084,104.5,1632.3,1,NULL,NULL,NULL,NULL,0,NULL,8);
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT;
INSERT INTO "meta" VALUES('base_url','http://127.0.0.1:1');
INSERT INTO "meta" VALUES('dry_run','false');
INSERT INTO "meta" VALUES('host','ops-1');
INSERT INTO "meta" VALUES('invocations','1');
INSERT INTO "meta" VALUES('items','20');
INSERT INTO "meta" VALUES('items_digest','952875a91a787f34b5c70b4ba83a188c9e89c445a7a2b5284a7dd0d90e0be81d');
INSERT INTO "meta" VALUES('items_source','items.csv');
INSERT INTO "meta" VALUES('job','rotate');
INSERT INTO "meta" VALUES('job_argument','/rotation/job.json');
INSERT INTO "meta" VALUES('job_digest','a8ce0efd93183228976dec445401a2ca357a11c5cbc20a38db8402d5d4d30387');
INSERT INTO "meta" VALUES('kind','run');
INSERT INTO "meta" VALUES('rows','20');
INSERT INTO "meta" VALUES('source_digest','952875a91a787f34b5c70b4ba83a188c9e89c445a7a2b5284a7dd0d90e0be81d');
INSERT INTO "meta" VALUES('started_ms','1795549899098');
INSERT INTO "meta" VALUES('state','running');
INSERT INTO "meta" VALUES('user','ada');
INSERT INTO "meta" VALUES('version','0.1.0');
CREATE INDEX item_sequence ON item (sequence) WHERE sequence IS NOT NULL;
COMMIT;
