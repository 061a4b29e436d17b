SELECT c.id::text, jsonb_build_object(
    'id', c.id, 'email', c.email, 'name', c.name, 'country', c.country, 'tier', c.tier, 'born', c.born,
    'preferences', c.preferences, 'created_at', c.created_at,
    'addresses', coalesce((SELECT jsonb_agg(jsonb_build_object('id', a.id, 'kind', a.kind, 'street', a.street, 'city', a.city)
                    ORDER BY a.kind COLLATE "C", a.id)
                FROM addresses a WHERE a.customer_id = c.id), '[]'),
    'latest_orders', coalesce((SELECT jsonb_agg(jsonb_build_object('id', o.id, 'status', o.status, 'total', o.total,
                    'items', coalesce((SELECT jsonb_agg(jsonb_build_object('product_id', i.product_id, 'qty', i.qty) ORDER BY i.line_no)
                              FROM order_items i WHERE i.order_id = o.id), '[]'))
                    ORDER BY o.created_at DESC, o.id DESC)
                FROM (SELECT * FROM orders WHERE customer_id = c.id ORDER BY created_at DESC, id DESC LIMIT 5) o), '[]'),
    'order_count', (SELECT count(*) FROM orders o WHERE o.customer_id = c.id),
    'spent', (SELECT sum(total) FROM orders o WHERE o.customer_id = c.id),
    'first_order', (SELECT min(created_at) FROM orders o WHERE o.customer_id = c.id),
    'largest_order', (SELECT max(total) FROM orders o WHERE o.customer_id = c.id))
FROM customers c
