-- How long a value would be as text, told without making the text.

-- The columns whose text may be thousands of times their stored size: many numbers of up to 147,456 digits in one value.
CREATE OR REPLACE FUNCTION streamhub.expanding_columns(relation oid) RETURNS name[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(array_agg(DISTINCT c.name), '{}') FROM streamhub.column_types(relation) AS c
  JOIN pg_type t ON t.oid = c.type
  WHERE c.type IN ('jsonb'::regtype, 'nummultirange'::regtype)
     OR (t.typtype = 'c' AND c.type::bigint >= streamhub.first_oid_of_users())
     OR (c.type = 'numeric'::regtype AND (SELECT count(*) > 8 FROM streamhub.column_types(relation) AS all_
                                          WHERE all_.type = 'numeric'::regtype))
     OR (t.typtype = 'm' AND c.type::bigint >= streamhub.first_oid_of_users())
     OR (c.in_array AND c.type IN ('numeric'::regtype, 'numrange'::regtype))
$$;

-- About how many digits a number is written with where they are unusually many; else 0. At most twice as many as they are.
-- No text is made to find out. The scale of NaN and of the infinities is null.
CREATE OR REPLACE FUNCTION streamhub.unusual_digits(number numeric) RETURNS bigint
LANGUAGE sql IMMUTABLE  -- without a search_path of its own, so that it is inlined: its callers have one
AS $$
  SELECT CASE WHEN scale(number) <= 100 THEN 0 ELSE coalesce(scale(number), 0) END
       + CASE WHEN scale(number) IS NULL OR abs(number) < 1e100 THEN 0
              WHEN abs(number) < 1e200 THEN 200 WHEN abs(number) < 1e400 THEN 400 WHEN abs(number) < 1e800 THEN 800
              WHEN abs(number) < 1e2000 THEN 2000 WHEN abs(number) < 1e4000 THEN 4000
              WHEN abs(number) < 1e8000 THEN 8000 WHEN abs(number) < 1e16000 THEN 16000
              WHEN abs(number) < 1e32000 THEN 32000 WHEN abs(number) < 1e65000 THEN 65000 ELSE 131072 END::bigint
$$;

-- The same for all numbers of a value. One of up to `small` bytes counts as 0: it has fewer than a hundred numbers.
CREATE OR REPLACE FUNCTION streamhub.digits(value anyelement, small integer DEFAULT 512) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  base oid;
  type pg_type;
  fields text;
  filter jsonpath;
  total bigint := 0;
BEGIN
  IF value IS NOT DISTINCT FROM NULL THEN
    RETURN 0;
  END IF;
  base := streamhub.base_type(pg_typeof(value));
  IF base = 'numeric'::regtype THEN
    RETURN streamhub.unusual_digits(value::numeric);
  ELSIF pg_column_size(value) <= small AND pg_column_compression(value) IS NULL THEN
    RETURN 0;
  END IF;
  SELECT * INTO type FROM pg_type WHERE oid = base;
  IF base = 'jsonb'::regtype THEN
    -- Numbers near 0 are looked at in a large value only: they take 16,383 digits at the most, and 0 is a usual number.
    filter := CASE WHEN small > 0 AND pg_column_size(value) <= 40000 AND pg_column_compression(value) IS NULL
                   THEN 'strict $.** ? (@ >= 1e100 || @ <= -1e100)'
                   ELSE 'strict $.** ? (@ >= 1e100 || @ <= -1e100 || (@ < 1e-100 && @ > -1e-100))' END;
    IF jsonb_path_exists(value::jsonb, filter) THEN
      -- By way of an array: jsonb_path_query takes the square of the number of items.
      SELECT sum(streamhub.unusual_digits(number::numeric)) INTO total
      FROM jsonb_array_elements(jsonb_path_query_array(value::jsonb, filter)) AS number;
    END IF;
  ELSIF base = 'numeric[]'::regtype THEN
    SELECT sum(streamhub.unusual_digits(number)) INTO total FROM unnest(value::numeric[]) AS number;
  ELSIF base = 'numrange[]'::regtype THEN
    SELECT sum(streamhub.unusual_digits(lower(r)) + streamhub.unusual_digits(upper(r))) INTO total
    FROM unnest(value::numrange[]) AS r;
  ELSIF base = 'numrange'::regtype THEN
    total := streamhub.unusual_digits(lower(value::numrange)) + streamhub.unusual_digits(upper(value::numrange));
  ELSIF base = 'nummultirange'::regtype THEN
    SELECT sum(streamhub.unusual_digits(lower(r)) + streamhub.unusual_digits(upper(r))) INTO total
    FROM unnest(value::nummultirange) AS r;
  ELSIF type.typtype = 'c' THEN
    SELECT string_agg(format('streamhub.digits(($1).%I, 0)', attname), ' + ') INTO fields FROM pg_attribute
    WHERE attrelid = type.typrelid AND attnum > 0 AND NOT attisdropped;
    EXECUTE 'SELECT ' || coalesce(fields, '0') INTO total USING value;
  ELSIF type.typsubscript = 'array_subscript_handler'::regproc THEN
    SELECT sum(streamhub.digits(element, 0)) INTO total FROM unnest(value) AS element;
  ELSIF type.typtype IN ('r', 'm') AND base::bigint >= streamhub.first_oid_of_users() THEN  -- it cannot be told over what
    total := (pg_column_size(value) / 8 + 1) * 147456;
  END IF;
  RETURN coalesce(total, 0);
END $$;
