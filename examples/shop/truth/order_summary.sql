SELECT o.id::text, jsonb_build_object(
    'id', o.id, 'status', o.status, 'total', o.total, 'note', o.note, 'placed_at', o.created_at,
    'customer', (SELECT jsonb_build_object('id', c.id, 'name', c.name, 'country', c.country, 'tier', c.tier)
                 FROM customers c WHERE c.id = o.customer_id),
    'ship_to', (SELECT jsonb_build_object('street', a.street, 'city', a.city, 'country', a.country)
                FROM addresses a WHERE a.id = o.ship_to),
    'items', coalesce((SELECT jsonb_agg(jsonb_build_object('line_no', i.line_no, 'qty', i.qty, 'price', i.price,
                    'product', jsonb_build_object('sku', p.sku, 'name', p.name, 'category', jsonb_build_object('name', g.name)))
                    ORDER BY i.line_no)
                FROM order_items i JOIN products p ON p.id = i.product_id JOIN categories g ON g.id = p.category_id
                WHERE i.order_id = o.id), '[]'),
    'item_count', (SELECT count(*) FROM order_items i WHERE i.order_id = o.id),
    'quantity', (SELECT sum(qty) FROM order_items i WHERE i.order_id = o.id),
    'payments', coalesce((SELECT jsonb_agg(jsonb_build_object('id', y.id, 'method', y.method, 'amount', y.amount,
                    'settled', y.settled, 'paid_at', y.paid_at) ORDER BY y.paid_at NULLS LAST, y.id)
                FROM payments y WHERE y.order_id = o.id), '[]'),
    'paid', (SELECT sum(amount) FROM payments y WHERE y.order_id = o.id),
    'large', o.total > 1000)
FROM orders o WHERE o.status <> 'draft'
