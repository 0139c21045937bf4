-- Who runs what: see docs/operate/security.md. What triggers run belongs to streamhub_capture, and nothing else does: what the
-- hub calls itself must not be that role's to replace.
DO $$
DECLARE
  function regprocedure;
  runs_as_owner boolean;
BEGIN
  FOR function, runs_as_owner IN SELECT oid, prosecdef FROM pg_proc WHERE pronamespace = 'streamhub'::regnamespace LOOP
    IF runs_as_owner THEN
      PERFORM streamhub.hand_over(function);
    ELSE
      EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO streamhub_capture', function);
    END IF;
  END LOOP;
END $$;
REVOKE ALL ON FUNCTION streamhub.make_capture_function, streamhub.make_trigger_function, streamhub.hand_over
  FROM streamhub_capture;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA streamhub FROM PUBLIC;
