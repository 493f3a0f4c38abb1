-- A store of layout 2, as `sqlite3.Connection.iterdump` wrote it: made by forgepool before an
-- expectation had a number. mv1Alice and mv1Bob (both fresh) took block 6/0 with a signer elsewhere;
-- nothing has come for Alice's, Bob's signature is kept. Alice signed attestation 7/0 too, and Bob
-- has a ceiling of 900.
PRAGMA application_id = 1718579815;
PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE administration (
            number  INTEGER PRIMARY KEY,
            at      INTEGER NOT NULL,       -- Unix seconds
            user    TEXT NOT NULL,
            command TEXT NOT NULL,
            changes TEXT NOT NULL           -- a JSON list of sentences
        );
INSERT INTO "administration" VALUES(1,1795629259,'root','a program','["mv1Alice: declared to have signed nothing","mv1Alice: enabled for mv1Alice","mv1Bob: declared to have signed nothing","mv1Bob: enabled for mv1Bob"]');
INSERT INTO "administration" VALUES(2,1795629259,'root','a program','["mv1Bob: ceiling 900"]');
CREATE TABLE block_drafts (
    key   INTEGER NOT NULL REFERENCES keys (key),
    level INTEGER NOT NULL,
    round INTEGER NOT NULL,
    draft BLOB NOT NULL,
    UNIQUE (key, level, round)
);
CREATE TABLE ceilings (
            holder INTEGER PRIMARY KEY,     -- number of a key or delegate, 0: everyone
            level  INTEGER NOT NULL         -- nothing above it is signed
        );
INSERT INTO "ceilings" VALUES(2,900);
CREATE TABLE holders (                  -- every key and every delegate
    number INTEGER PRIMARY KEY,
    hash   TEXT NOT NULL UNIQUE
);
INSERT INTO "holders" VALUES(1,'mv1Alice');
INSERT INTO "holders" VALUES(2,'mv1Bob');
CREATE TABLE journal (
    seq     INTEGER PRIMARY KEY,
    entries BLOB
);
INSERT INTO "journal" VALUES(1,NULL);
INSERT INTO "journal" VALUES(2,X'');
INSERT INTO "journal" VALUES(3,NULL);
INSERT INTO "journal" VALUES(4,X'');
INSERT INTO "journal" VALUES(5,X'000000010000000006000000008928AAE63C84D87EA098564D1E03AD813F107ADD474E56AEDD286349C0C03EA4000000020000000006000000008928AAE63C84D87EA098564D1E03AD813F107ADD474E56AEDD286349C0C03EA4000000010200000007000000008928AAE63C84D87EA098564D1E03AD813F107ADD474E56AEDD286349C0C03EA4');
INSERT INTO "journal" VALUES(6,X'');
INSERT INTO "journal" VALUES(7,NULL);
CREATE TABLE kept_signatures (
            key       INTEGER NOT NULL REFERENCES holders (number),
            kind      INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 3),
            version   INTEGER NOT NULL,     -- of the signature: 0, and for BLS 1 or 2
            digest    BLOB NOT NULL CHECK (length(digest) = 32),
            signature BLOB,                 -- NULL: a signer was asked, and nothing has come yet
            PRIMARY KEY (key, kind, version)
        ) WITHOUT ROWID
        ;
INSERT INTO "kept_signatures" VALUES(1,0,0,X'8928AAE63C84D87EA098564D1E03AD813F107ADD474E56AEDD286349C0C03EA4',NULL);
INSERT INTO "kept_signatures" VALUES(2,0,0,X'8928AAE63C84D87EA098564D1E03AD813F107ADD474E56AEDD286349C0C03EA4',X'07070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707');
CREATE TABLE keys (
    key      INTEGER PRIMARY KEY REFERENCES holders (number),
    delegate INTEGER NOT NULL REFERENCES holders (number),
    enabled  INTEGER NOT NULL,
    since    INTEGER NOT NULL           -- Unix seconds of the last change
);
INSERT INTO "keys" VALUES(1,1,1,1795629259);
INSERT INTO "keys" VALUES(2,2,1,1795629259);
CREATE TABLE marks (
    chain_id  BLOB NOT NULL,
    holder    INTEGER NOT NULL REFERENCES holders (number),
    kind      INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 3),
    level     INTEGER NOT NULL,
    round     INTEGER NOT NULL,
    digest    BLOB NOT NULL CHECK (length(digest) IN (0, 32)),                     -- of signers that would not make the same one again
    PRIMARY KEY (chain_id, holder, kind)
) WITHOUT ROWID;
INSERT INTO "marks" VALUES(X'7A06A770',1,0,6,0,X'8928AAE63C84D87EA098564D1E03AD813F107ADD474E56AEDD286349C0C03EA4');
INSERT INTO "marks" VALUES(X'7A06A770',1,1,-1,2147483647,X'');
INSERT INTO "marks" VALUES(X'7A06A770',1,2,7,0,X'8928AAE63C84D87EA098564D1E03AD813F107ADD474E56AEDD286349C0C03EA4');
INSERT INTO "marks" VALUES(X'7A06A770',1,3,-1,2147483647,X'');
INSERT INTO "marks" VALUES(X'7A06A770',2,0,6,0,X'8928AAE63C84D87EA098564D1E03AD813F107ADD474E56AEDD286349C0C03EA4');
INSERT INTO "marks" VALUES(X'7A06A770',2,1,-1,2147483647,X'');
INSERT INTO "marks" VALUES(X'7A06A770',2,2,-1,2147483647,X'');
INSERT INTO "marks" VALUES(X'7A06A770',2,3,-1,2147483647,X'');
CREATE TABLE store (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    uuid       TEXT NOT NULL,
    host_id    TEXT NOT NULL,
    network    TEXT NOT NULL,
    chain_id   BLOB NOT NULL CHECK (length(chain_id) = 4),
    folded_seq INTEGER NOT NULL
);
INSERT INTO "store" VALUES(1,'ffa74f3f70fc42faadec0d0a27a79c26','vector host','mavryk',X'7A06A770',6);
CREATE TRIGGER marks_only_rise BEFORE UPDATE ON marks
WHEN NEW.level < OLD.level OR (NEW.level = OLD.level AND NEW.round < OLD.round)
BEGIN SELECT RAISE(ABORT, 'a mark would go down'); END;
CREATE TRIGGER marks_stay BEFORE DELETE ON marks
BEGIN SELECT RAISE(ABORT, 'a mark would go away'); END;
CREATE TRIGGER administration_stays BEFORE UPDATE ON administration
        BEGIN SELECT RAISE(ABORT, 'what was done by hand would be rewritten'); END;
COMMIT;
