-- What each peer brought is counted once per transaction (progress.rs). A trigger ran for each event, and made SQLite keep copies of
-- the pages that the event changed.
DROP TRIGGER event_received;
DROP TRIGGER event_gone;
