-- Fills the shop. The three settings say how much: shop.customers, shop.products, shop.orders.
SELECT setseed(0.42);

INSERT INTO categories (id, parent_id, name)
SELECT i, CASE WHEN i > 8 THEN 1 + (i % 8) END, 'Category ' || i
FROM generate_series(1, 60) i;

INSERT INTO customers (email, name, country, tier, born, preferences, created_at)
SELECT 'customer' || i || '@shop.example', 'Customer ' || i,
       (ARRAY['NO','DE','FR','US','JP','BR'])[1 + i % 6],
       (ARRAY['basic','silver','gold'])[1 + i % 3]::customer_tier,
       CASE WHEN i % 5 > 0 THEN date '1950-01-01' + i % 20000 END,
       jsonb_build_object('newsletter', i % 2 = 0, 'language', 'lang' || i % 7, 'score', (i % 1000) / 8.0),
       timestamptz '2024-01-01 00:00:00Z' + i * interval '61.7 seconds'
FROM generate_series(1, current_setting('shop.customers')::int) i;

INSERT INTO addresses (customer_id, kind, street, city, country)
SELECT c.id, k, 'Street ' || c.id || ' "' || k || '"', 'Città ' || c.id % 97, c.country
FROM customers c, unnest(CASE WHEN c.id % 3 = 0 THEN ARRAY['home','work'] ELSE ARRAY['home'] END) k;

INSERT INTO products (category_id, sku, name, price, tags, attributes, updated_at)
SELECT 1 + i % 60, 'SKU-' || lpad(i::text, 6, '0'), 'Product ' || i, (100 + i % 9900) / 100.0,
       CASE WHEN i % 4 = 0 THEN '{}' ELSE ARRAY['tag' || i % 11, 'a "quoted" tag', NULL] END,
       jsonb_build_object('weight', i % 100, 'blob', (SELECT string_agg(md5(i || '.' || g), '') FROM generate_series(1, 200) g)),
       timestamptz '2024-01-01 00:00:00Z' + i * interval '1 hour'
FROM generate_series(1, current_setting('shop.products')::int) i;

CREATE TEMP TABLE numbered AS
SELECT row_number() OVER (ORDER BY customer_id, kind) AS n, id, customer_id FROM addresses;
ALTER TABLE numbered ADD PRIMARY KEY (n);
ANALYZE numbered;

INSERT INTO orders (customer_id, ship_to, status, note, created_at)
SELECT a.customer_id, CASE WHEN i % 7 > 0 THEN a.id END,
       (ARRAY['draft','placed','paid','shipped','delivered','cancelled'])[1 + i % 6],
       CASE WHEN i % 10 = 0 THEN (SELECT string_agg(md5(i || '.' || g), ' ') FROM generate_series(1, 150) g) END,
       timestamptz '2025-01-01 00:00:00Z' + i * interval '17.123 seconds'
FROM generate_series(1, current_setting('shop.orders')::int) i
JOIN numbered a ON a.n = 1 + (i::bigint * 7919) % (SELECT max(n) FROM numbered);

DROP TABLE numbered;

INSERT INTO order_items (order_id, line_no, product_id, qty, price)
SELECT o.id, l, p.id, 1 + (o.id + l) % 5, p.price
FROM orders o, generate_series(1, 4) l
JOIN products p ON true
WHERE l <= 1 + o.id % 4
  AND p.id = 1 + (o.id * 31 + l * 977) % current_setting('shop.products')::int;

UPDATE orders o SET total = (SELECT sum(qty * price) FROM order_items i WHERE i.order_id = o.id);

INSERT INTO payments (order_id, method, amount, settled, paid_at)
SELECT o.id, (ARRAY['card','transfer','voucher'])[1 + o.id % 3], round(o.total / n, 2), o.id % 9 > 0, o.created_at + interval '5 minutes'
FROM orders o, LATERAL (SELECT 1 + (o.id % 11 = 0)::int AS n) s, generate_series(1, s.n)
WHERE o.status IN ('paid', 'shipped', 'delivered');

INSERT INTO shipments (tracking, order_id, carrier, weight_kg, parcels, shipped_at, delivered_at)
SELECT 'TRACK/' || lpad(o.id::text, 9, '0'), o.id, (ARRAY['post','ship & co','drone'])[1 + o.id % 3],
       (o.id % 1000) / 7.0::float8, ARRAY[(o.id % 3)::int, (o.id % 5)::int], o.created_at + interval '1 day',
       CASE WHEN o.status = 'delivered' THEN o.created_at + interval '3 days' END
FROM orders o WHERE o.status IN ('shipped', 'delivered');

ANALYZE;
