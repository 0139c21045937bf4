-- Events that are no change of a row: an application publishes them. The origin of such a row of the outbox is 'published',
-- old_row tells what the event is about, new_row is the publisher's own data (streamhub/core/published.py).
--
-- These functions belong to the owner of the outbox, the hub's role, so that the role of the trigger functions gains nothing by
-- them. Others run streamhub.publish alone: its arguments have PostgreSQL's own types, and it calls PostgreSQL's own functions.

-- Writes events that were found to be good, in their order, in the caller's transaction; the arrays have one element for each.
-- A publish_id that was used for this organization and environment within 24 hours writes nothing, whatever the rest of its
-- event is. While another transaction is publishing the same one, this waits for its end. The ids are taken in their own order,
-- so that two calls never wait for each other.
CREATE OR REPLACE FUNCTION streamhub.write_published(
  organization text, test boolean, types text[], data text[], resource_types text[], resource_ids text[], publish_ids text[]
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  fresh text[];
BEGIN
  WITH taken AS (
    INSERT INTO streamhub.publish_ids AS kept (organization, test, publish_id)
    SELECT write_published.organization, write_published.test, given.id
    FROM (SELECT DISTINCT id COLLATE "C" AS id FROM unnest(publish_ids) AS each (id) ORDER BY id) AS given
    ON CONFLICT ON CONSTRAINT publish_ids_pkey DO UPDATE SET published_at = clock_timestamp()
    WHERE kept.published_at <= clock_timestamp() - interval '24 hours'
    RETURNING kept.publish_id
  )
  SELECT array_agg(taken.publish_id) INTO fresh FROM taken;
  IF fresh IS NULL THEN
    RETURN;
  END IF;
  -- The transaction holds its id by now, and the relay's floor rests on that.
  INSERT INTO streamhub.outbox (origin, who, old_row, new_row)
  SELECT 'published', current_setting('streamhub.who', true),
         json_build_object('organization', write_published.organization, 'type', e.type, 'resource_type', e.resource_type,
                           'resource_id', e.resource_id, 'publish_id', e.publish_id, 'test', write_published.test)::text,
         e.data
  FROM (SELECT each.*, row_number() OVER (PARTITION BY each.publish_id COLLATE "C" ORDER BY each.n) AS nth
        FROM unnest(types, data, resource_types, resource_ids, publish_ids)
          WITH ORDINALITY AS each (type, data, resource_type, resource_id, publish_id, n)) AS e
  WHERE e.nth = 1 AND e.publish_id COLLATE "C" = ANY (fresh)
  ORDER BY e.n;
END $$;

-- Publishes an event in the caller's transaction; its publish_id, which is made where none is given.
CREATE OR REPLACE FUNCTION streamhub.publish(
  organization text, type text, data json, resource_type text DEFAULT NULL, resource_id text DEFAULT NULL,
  publish_id text DEFAULT NULL, test boolean DEFAULT false
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  given text := coalesce(publish_id, gen_random_uuid()::text);
  wrong text;
  member text;
  value text;
  -- As streamhub/core/names.py judges. E'' means the same in every session.
  control text := E'[\\x01-\\x1f\\x7f]';
  space text := ' ';
BEGIN
  IF getdatabaseencoding() = 'UTF8' THEN
    control := E'[\\x01-\\x1f\\x7f-\\x9f\\u2028\\u2029]';
    space := E'[ \\xa0\\u1680\\u2000-\\u200a\\u202f\\u205f\\u3000]';
  END IF;
  wrong := CASE
    WHEN organization IS NULL OR organization = '' OR length(organization) > 255
      THEN 'organization: an id of 1 to 255 characters is needed'
    WHEN type IS NULL OR length(type) > 255 OR type COLLATE "C" !~ '^[A-Za-z0-9_-]+([.][A-Za-z0-9_-]+)*$'
      THEN format('type %L: letters, digits, _ and - in segments joined by dots are needed, at most 255 characters',
                  left(type, 300))
    WHEN substring(type COLLATE "C" FROM '[^.]*$')
         IN ('heartbeat', 'gap', 'stream_error', 'replay_started', 'stream_complete')
      THEN format('type %L: its last segment is the name of a control frame, choose another', type)
    WHEN data IS NULL THEN 'data: JSON is needed; for none, give ''null'''
    WHEN octet_length(data::text) > 1048576
      THEN format('data has %s bytes: at most 1048576 are allowed', octet_length(data::text))
    WHEN test IS NULL THEN 'test: true or false is needed'
  END;
  FOREACH member IN ARRAY ARRAY['resource_type', 'resource_id', 'publish_id'] LOOP
    value := CASE member WHEN 'resource_type' THEN resource_type WHEN 'resource_id' THEN resource_id ELSE given END;
    IF wrong IS NULL AND (value = '' OR length(value) > 255
                          OR value COLLATE "C" ~ format('%s|^%s|%s$', control, space, space)) THEN
      wrong := format('%s %L: 1 to 255 characters are needed, no control character, no space at an edge', member,
                      left(value, 300));
    END IF;
  END LOOP;
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION 'streamhub.publish: %', wrong USING ERRCODE = 'invalid_parameter_value';
  END IF;
  PERFORM streamhub.write_published(
    organization, test, ARRAY[type], ARRAY[data::text], ARRAY[resource_type], ARRAY[resource_id], ARRAY[given]);
  RETURN given;
END $$;
