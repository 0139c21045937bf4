-- The sample shop: what an ordinary application's tables look like. Nothing in here knows of streamhub.

CREATE SCHEMA shop;

CREATE TABLE shop.customers (
  id                          text PRIMARY KEY,
  organization_id             text NOT NULL,
  test                        boolean NOT NULL,
  name                        text NOT NULL,
  email                       text NOT NULL,
  city                        text NOT NULL,
  country_code                char(2) NOT NULL,
  password_digest             text NOT NULL,
  anonymization_requested_at  timestamptz,
  created_at                  timestamptz NOT NULL DEFAULT now(),
  updated_at                  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE shop.skus (
  id               text PRIMARY KEY,
  organization_id  text NOT NULL,
  test             boolean NOT NULL,
  code             text NOT NULL,
  name             text NOT NULL,
  tags             text[] NOT NULL DEFAULT '{}',
  metadata         jsonb NOT NULL DEFAULT '{}',
  created_at       timestamptz NOT NULL DEFAULT now(),
  updated_at       timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE shop.prices (
  id                 text PRIMARY KEY,
  organization_id    text NOT NULL,
  test               boolean NOT NULL,
  sku_id             text NOT NULL REFERENCES shop.skus ON DELETE CASCADE,
  currency_code      char(3) NOT NULL,
  amount             numeric(10, 2) NOT NULL,
  compare_at_amount  numeric(10, 2),
  updated_at         timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE shop.stock_items (
  id               text PRIMARY KEY,
  organization_id  text NOT NULL,
  test             boolean NOT NULL,
  sku_id           text NOT NULL REFERENCES shop.skus ON DELETE CASCADE,
  warehouse        text NOT NULL,
  quantity         integer NOT NULL,
  updated_at       timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE shop.orders (
  id               text PRIMARY KEY,
  organization_id  text NOT NULL,
  test             boolean NOT NULL,
  number           bigint GENERATED ALWAYS AS IDENTITY (START 1001),
  customer_id      text REFERENCES shop.customers ON DELETE SET NULL,
  status           text NOT NULL,
  currency_code    char(3) NOT NULL,
  total_amount     numeric(10, 2) NOT NULL,
  placed_at        timestamptz NOT NULL DEFAULT now(),
  updated_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_of_customer ON shop.orders (customer_id);

CREATE TABLE shop.line_items (
  id               text PRIMARY KEY,
  organization_id  text NOT NULL,
  test             boolean NOT NULL,
  order_id         text NOT NULL REFERENCES shop.orders ON DELETE CASCADE,
  sku_id           text REFERENCES shop.skus ON DELETE SET NULL,
  name             text NOT NULL,
  quantity         integer NOT NULL,
  unit_amount      numeric(10, 2) NOT NULL
);
CREATE INDEX line_items_of_order ON shop.line_items (order_id);
