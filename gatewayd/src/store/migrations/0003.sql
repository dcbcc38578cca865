-- A revocation list is made in the writer's thread at each revocation: what it must carry is found
-- without a look at everything that ever was.
ALTER TABLE revocations ADD COLUMN not_after INTEGER NOT NULL DEFAULT 0;
UPDATE revocations SET not_after = (SELECT c.not_after FROM certificates c WHERE c.serial = revocations.serial);
CREATE INDEX revocations_open ON revocations (not_after) WHERE carried = 0;
-- Only the newest list is served, and the next number is above it.
DELETE FROM crls WHERE number < (SELECT max(number) FROM crls);
