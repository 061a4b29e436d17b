package e2e

// The database of the joined documents: no foreign keys, so that anything may be done to it, and no REPLICA IDENTITY
// but the default. Large texts are stored out of line and not sent when an update leaves them alone.
const joinedSchema = `
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, bio text NOT NULL);
CREATE TABLE orders (id int PRIMARY KEY, customer_id int, status text NOT NULL, note text NOT NULL);
CREATE TABLE items (order_id int, line_no int, product_id int NOT NULL, qty int NOT NULL, place int NOT NULL, remark text NOT NULL,
	PRIMARY KEY (order_id, line_no));
CREATE TABLE payments (id int PRIMARY KEY, order_id int, amount numeric NOT NULL, receipt text NOT NULL);
CREATE TABLE categories (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE products (id int PRIMARY KEY, category_id int, name text NOT NULL);
CREATE TABLE serials (id int PRIMARY KEY, order_id int, line_no int, code text NOT NULL);
CREATE TABLE tags (id int PRIMARY KEY, label text NOT NULL);
CREATE TABLE order_tags (order_id int, tag_id int, PRIMARY KEY (order_id, tag_id));
ALTER TABLE customers ALTER bio SET STORAGE EXTERNAL;
ALTER TABLE orders ALTER note SET STORAGE EXTERNAL;
ALTER TABLE items ALTER remark SET STORAGE EXTERNAL;
ALTER TABLE payments ALTER receipt SET STORAGE EXTERNAL;

CREATE FUNCTION large(seed text) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(md5(seed || g), '') FROM generate_series(1, 120) g $$;

INSERT INTO categories SELECT i, 'Category ' || i FROM generate_series(1, 4) i;
INSERT INTO products SELECT i, 1 + i % 4, 'Product ' || i FROM generate_series(1, 12) i;
INSERT INTO tags SELECT i, 'tag ' || i FROM generate_series(1, 6) i;
INSERT INTO customers SELECT i, 'Customer ' || i, large('bio' || i) FROM generate_series(1, 6) i;
INSERT INTO orders SELECT i, 1 + i % 6, 'placed', large('note' || i) FROM generate_series(1, 30) i;
INSERT INTO items SELECT o, l, 1 + (o + l) % 12, l, 10 * l, CASE WHEN l = 1 THEN large(o || '.' || l) ELSE '' END
	FROM generate_series(1, 30) o, generate_series(1, 3) l;
INSERT INTO payments SELECT i, 1 + i % 30, i * 1.5, large('receipt' || i) FROM generate_series(1, 40) i;
INSERT INTO serials SELECT i, 1 + i % 30, 1 + i % 3, 'S' || i FROM generate_series(1, 90) i;
INSERT INTO order_tags SELECT o, t FROM generate_series(1, 30) o, generate_series(1, 6) t WHERE (o + t) % 3 = 0;
`

var joinedTables = []string{"customers", "orders", "items", "payments", "categories", "products", "serials", "tags", "order_tags"}

var joinedViews = map[string][]byte{
	"order_page": []byte(`view: order_page
from: public.orders
fields:
  id:
  status: {as: keyword}
  note: {as: text}
  customer: {one: public.customers, on: {id: customer_id}, fields: {id: , name: , bio: {as: text}}}
  items:
    many: public.items
    on: {order_id: id}
    order_by: [place, line_no]
    fields:
      line_no:
      qty:
      place:
      remark: {as: text}
      product:
        one: public.products
        on: {id: product_id}
        fields: {id: , name: , category: {one: public.categories, on: {id: category_id}, fields: {name: }}}
      serials: {many: public.serials, on: {order_id: order_id, line_no: line_no}, order_by: id, value: code}
  item_count: {count: items}
  pieces: {sum: items.qty}
  payments: {many: public.payments, on: {order_id: id}, order_by: [-amount, id], fields: {id: , amount: , receipt: {as: text}}}
  paid: {sum: payments.amount}
  tags: {many: public.tags, through: public.order_tags, on: {order_id: id}, to: {id: tag_id}, order_by: [label, id], value: label}
  last: {many: public.zz_last, on: {id: id}, hidden: true, fields: {id: }} # the view waits for this table
search:
cache: {lookups: [status]}
`),
	"customer_page": []byte(`view: customer_page
from: public.customers
fields:
  id:
  name:
  bio: {as: text}
  orders:
    many: public.orders
    on: {customer_id: id}
    order_by: -id
    limit: 5
    fields: {id: , status: , products: {many: public.products, through: public.items, on: {order_id: id}, to: {id: product_id}, order_by: [name, id], value: name}}
  order_count: {count: orders}
  last: {many: public.zz_last, on: {id: id}, hidden: true, fields: {id: }}
search:
cache:
`),
}

var joinedTruth = map[string]string{
	"order_page": `
SELECT o.id::text, jsonb_build_object('id', o.id, 'status', o.status, 'note', o.note,
	'customer', (SELECT jsonb_build_object('id', c.id, 'name', c.name, 'bio', c.bio) FROM customers c WHERE c.id = o.customer_id),
	'items', coalesce((SELECT jsonb_agg(jsonb_build_object('line_no', i.line_no, 'qty', i.qty, 'place', i.place, 'remark', i.remark,
			'product', (SELECT jsonb_build_object('id', p.id, 'name', p.name,
				'category', (SELECT jsonb_build_object('name', g.name) FROM categories g WHERE g.id = p.category_id))
				FROM products p WHERE p.id = i.product_id),
			'serials', coalesce((SELECT jsonb_agg(s.code ORDER BY s.id) FROM serials s WHERE s.order_id = i.order_id AND s.line_no = i.line_no), '[]'))
		ORDER BY i.place, i.line_no) FROM items i WHERE i.order_id = o.id), '[]'),
	'item_count', (SELECT count(*) FROM items i WHERE i.order_id = o.id),
	'pieces', (SELECT sum(i.qty) FROM items i WHERE i.order_id = o.id),
	'payments', coalesce((SELECT jsonb_agg(jsonb_build_object('id', y.id, 'amount', y.amount, 'receipt', y.receipt) ORDER BY y.amount DESC, y.id)
		FROM payments y WHERE y.order_id = o.id), '[]'),
	'paid', (SELECT sum(y.amount) FROM payments y WHERE y.order_id = o.id),
	'tags', coalesce((SELECT jsonb_agg(t.label ORDER BY t.label COLLATE "C", t.id) FROM order_tags l JOIN tags t ON t.id = l.tag_id WHERE l.order_id = o.id), '[]'))
FROM orders o`,
	"customer_page": `
SELECT c.id::text, jsonb_build_object('id', c.id, 'name', c.name, 'bio', c.bio,
	'orders', coalesce((SELECT jsonb_agg(jsonb_build_object('id', o.id, 'status', o.status,
			'products', coalesce((SELECT jsonb_agg(p.name ORDER BY p.name COLLATE "C", p.id)
				FROM items i JOIN products p ON p.id = i.product_id WHERE i.order_id = o.id), '[]'))
		ORDER BY o.id DESC) FROM (SELECT * FROM orders WHERE customer_id = c.id ORDER BY id DESC LIMIT 5) o), '[]'),
	'order_count', (SELECT count(*) FROM orders o WHERE o.customer_id = c.id))
FROM customers c`,
}
