-- Who runs what: see docs/operate/security.md. What triggers run belongs to streamhub_capture, and nothing else does: what the
-- hub calls itself must not be that role's to replace. What publishes belongs to the owner of the outbox, whichever role migrates.
DO $$
DECLARE
  function regprocedure;
  publishes boolean;
  runs_as_owner boolean;
  owner regrole := (SELECT relowner FROM pg_class WHERE oid = 'streamhub.outbox'::regclass);
BEGIN
  FOR function, publishes, runs_as_owner IN
    SELECT oid, proname IN ('publish', 'write_published'), prosecdef
    FROM pg_proc WHERE pronamespace = 'streamhub'::regnamespace
  LOOP
    IF publishes THEN
      IF (SELECT proowner <> owner FROM pg_proc WHERE oid = function) THEN
        EXECUTE format('ALTER FUNCTION %s OWNER TO %s', function, owner);
      END IF;
    ELSIF runs_as_owner THEN
      PERFORM streamhub.hand_over(function);
    ELSE
      EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO streamhub_capture', function);
    END IF;
  END LOOP;
END $$;
REVOKE ALL ON FUNCTION streamhub.make_capture_function, streamhub.make_trigger_function, streamhub.hand_over
  FROM streamhub_capture;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA streamhub FROM PUBLIC;
GRANT EXECUTE ON FUNCTION streamhub.publish TO streamhub_publisher;
