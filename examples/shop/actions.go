package shop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/jackc/pgx/v5"
)

// action is one kind of transaction. weight is how often it is picked, relative to the others.
type action struct {
	kind   string
	weight int
	run    func(ctx context.Context, tx pgx.Tx, r *rand.Rand) error
}

// The rows an action works on are picked by a random key and the next row from there, which is cheap on any size.
// The key comes from a sub-select of its own, else it would be drawn anew for every row that is looked at.
const (
	anyOrder    = `(SELECT id FROM orders WHERE id >= (SELECT (random() * max(id))::bigint FROM orders) ORDER BY id LIMIT 1)`
	anyOther    = `(SELECT id FROM orders WHERE id <= (SELECT (random() * max(id))::bigint FROM orders) ORDER BY id DESC LIMIT 1)`
	anyCustomer = `(SELECT id FROM customers WHERE id >= (SELECT (random() * max(id))::bigint FROM customers) ORDER BY id LIMIT 1)`
	anyProduct  = `(SELECT id FROM products WHERE id >= (SELECT (random() * max(id))::bigint FROM products) ORDER BY id LIMIT 1)`
	anyAddress  = `(SELECT id FROM addresses WHERE id >= (SELECT gen_random_uuid()) ORDER BY id LIMIT 1)`
	anyParcel   = `(SELECT tracking FROM shipments WHERE tracking >= (SELECT 'TRACK/' || lpad((random() * max(id))::bigint::text, 9, '0') FROM orders) ORDER BY tracking LIMIT 1)`
)

var actions = []action{
	{"place order", 20, placeOrder},
	{"order status", 20, sql(`UPDATE orders SET status = (ARRAY['draft','placed','paid','shipped','delivered','cancelled'])[1 + floor(random()*6)::int] WHERE id = ` + anyOrder)},
	{"item quantity", 15, sql(`UPDATE order_items SET qty = 1 + floor(random()*9)::int WHERE order_id = ` + anyOrder)},
	{"item deleted", 5, sql(`DELETE FROM order_items WHERE order_id = ` + anyOrder + ` AND line_no = 2`)},
	{"item moved to another order", 6, sql(`UPDATE order_items i SET order_id = t.id, line_no = 1000 + floor(random()*1000000)::int
		FROM (SELECT ` + anyOther + ` AS id) t WHERE i.order_id = ` + anyOrder + ` AND i.line_no = 1`)},
	{"order moved to another customer", 5, sql(`UPDATE orders SET customer_id = ` + anyCustomer + ` WHERE id = ` + anyOrder)},
	{"payment moved to another order", 3, sql(`UPDATE payments SET order_id = ` + anyOther + ` WHERE order_id = ` + anyOrder)},
	{"order paid", 10, sql(`INSERT INTO payments (order_id, method, amount, settled, paid_at)
		SELECT id, 'card', total, random() < 0.9, CASE WHEN random() < 0.9 THEN clock_timestamp() END FROM orders WHERE id = ` + anyOrder)},
	{"payment settled", 5, sql(`UPDATE payments SET settled = true, paid_at = clock_timestamp() WHERE order_id = ` + anyOrder)},
	{"order shipped", 8, sql(`INSERT INTO shipments (tracking, order_id, carrier, weight_kg, parcels, shipped_at)
		SELECT 'TRACK/' || lpad(id::text, 9, '0') || '-' || floor(random()*1e9)::bigint, id, 'drone', random() * 40, ARRAY[1, NULL, 3], clock_timestamp() FROM orders WHERE id = ` + anyOrder)},
	{"tracking number changed", 4, sql(`UPDATE shipments SET tracking = tracking || 'x' WHERE tracking = ` + anyParcel + ` AND length(tracking) < 60`)},
	{"parcel delivered", 6, sql(`UPDATE shipments SET delivered_at = clock_timestamp(), weight_kg = weight_kg * 1.01 WHERE tracking = ` + anyParcel)},
	{"product renamed", 3, sql(`UPDATE products SET name = 'Renamed ' || floor(random()*1e9)::bigint WHERE id = ` + anyProduct)},
	{"product price", 4, sql(`UPDATE products SET price = round((random() * 100)::numeric, 2), updated_at = clock_timestamp() WHERE id = ` + anyProduct)},
	{"product attributes replaced", 2, sql(`UPDATE products SET attributes = jsonb_build_object('blob', (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 200)), 'n', random()) WHERE id = ` + anyProduct)},
	{"product in another category", 1, sql(`UPDATE products SET category_id = 1 + floor(random()*60)::int WHERE id = ` + anyProduct)},
	{"customer renamed", 4, sql(`UPDATE customers SET name = 'Åse "' || floor(random()*1e9)::bigint || E'"\n\\' WHERE id = ` + anyCustomer)},
	{"customer preferences", 3, sql(`UPDATE customers SET preferences = jsonb_build_object('score', random(), 'nothing', NULL, 'list', jsonb_build_array(1, 'two', 3.0)) WHERE id = ` + anyCustomer)},
	{"customer registered", 3, sql(`WITH c AS (INSERT INTO customers (email, name, country) VALUES (gen_random_uuid() || '@shop.example', 'Newcomer', 'NO') RETURNING id)
		INSERT INTO addresses (customer_id, kind, street, city, country) SELECT id, 'home', 'New Street', 'Oslo', 'NO' FROM c`)},
	{"customer deleted", 2, sql(`DELETE FROM customers c WHERE id = ` + anyCustomer + ` AND NOT EXISTS (SELECT FROM orders o WHERE o.customer_id = c.id)`)},
	{"address changed", 4, sql(`UPDATE addresses SET street = 'Moved ' || floor(random()*1e6)::int WHERE id = ` + anyAddress)},
	{"address deleted", 1, sql(`DELETE FROM addresses WHERE id = ` + anyAddress)},
	{"category renamed", 1, sql(`UPDATE categories SET name = 'Category ' || floor(random()*1e6)::int WHERE id = (SELECT 1 + floor(random()*60)::int)`)},
	{"category moved", 1, sql(`UPDATE categories SET parent_id = CASE WHEN random() < 0.8 THEN 1 + floor(random()*8)::int END WHERE id = (SELECT 9 + floor(random()*52)::int)`)},
	{"order deleted", 4, sql(`DELETE FROM orders WHERE id = ` + anyOrder)},
	{"many orders at once", 1, sql(`UPDATE orders SET note = 'bulk ' || random(), status = 'paid' WHERE id BETWEEN ` + anyOrder + ` AND ` + anyOrder + ` + 200`)},
	{"rolled back", 4, rolledBack},
	{"partly rolled back", 3, partlyRolledBack},
}

var totalWeight = func() (sum int) {
	for _, a := range actions {
		sum += a.weight
	}
	return sum
}()

func pick(r *rand.Rand) action {
	n := r.IntN(totalWeight)
	for _, a := range actions {
		if n -= a.weight; n < 0 {
			return a
		}
	}
	panic("unreachable: the weights add up to totalWeight")
}

// sql is an action of one statement.
func sql(statement string) func(context.Context, pgx.Tx, *rand.Rand) error {
	return func(ctx context.Context, tx pgx.Tx, _ *rand.Rand) error {
		_, err := tx.Exec(ctx, statement)
		return err
	}
}

// placeOrder writes an order, its lines and its total in one transaction, and renames a product after the line
// that points to it.
func placeOrder(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	var order int64
	var note *string
	if r.IntN(8) == 0 {
		large := strings.Repeat(fmt.Sprintf("%016x ", r.Uint64()), 400)
		note = &large
	}
	err := tx.QueryRow(ctx, `INSERT INTO orders (customer_id, ship_to, status, note)
		SELECT c.id, (SELECT a.id FROM addresses a WHERE a.customer_id = c.id LIMIT 1), 'placed', $1
		FROM customers c WHERE c.id = `+anyCustomer+` RETURNING id`, note).Scan(&order)
	if err != nil {
		return err
	}
	for line := range 1 + r.IntN(5) {
		if _, err := tx.Exec(ctx, `INSERT INTO order_items (order_id, line_no, product_id, qty, price)
			SELECT $1, $2, id, $3, price FROM products WHERE id = `+anyProduct, order, line+1, 1+r.IntN(4)); err != nil {
			return err
		}
	}
	if r.IntN(5) == 0 {
		if _, err := tx.Exec(ctx, `UPDATE products SET name = name || '+' WHERE length(name) < 60
			AND id = (SELECT product_id FROM order_items WHERE order_id = $1 LIMIT 1)`, order); err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, `UPDATE orders SET total = coalesce((SELECT sum(qty * price) FROM order_items WHERE order_id = $1), 0) WHERE id = $1`, order)
	return err
}

// rolledBack does work that must never be seen.
func rolledBack(ctx context.Context, tx pgx.Tx, _ *rand.Rand) error {
	if _, err := tx.Exec(ctx, `UPDATE orders SET note = 'never to be seen', status = 'paid' WHERE id = `+anyOrder); err != nil {
		return err
	}
	return errRollback
}

// partlyRolledBack keeps one statement and rolls another back to a savepoint.
func partlyRolledBack(ctx context.Context, tx pgx.Tx, _ *rand.Rand) error {
	for _, statement := range []string{
		`UPDATE orders SET note = 'kept' WHERE id = ` + anyOrder,
		`SAVEPOINT here`,
		`UPDATE customers SET name = 'never to be seen' WHERE id = ` + anyCustomer,
		`DELETE FROM payments WHERE order_id = ` + anyOrder,
		`ROLLBACK TO SAVEPOINT here`,
		`UPDATE orders SET note = 'kept as well' WHERE id = ` + anyOrder,
	} {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}
