SELECT s.tracking, jsonb_build_object(
    'tracking', s.tracking, 'carrier', s.carrier, 'weight_kg', s.weight_kg, 'parcels', to_jsonb(s.parcels),
    'shipped_at', s.shipped_at, 'delivered_at', s.delivered_at,
    'order', (SELECT jsonb_build_object('id', o.id, 'status', o.status,
                'customer', (SELECT jsonb_build_object('name', c.name, 'country', c.country) FROM customers c WHERE c.id = o.customer_id),
                'skus', coalesce((SELECT jsonb_agg(p.sku ORDER BY p.sku COLLATE "C") FROM products p
                                  WHERE p.id IN (SELECT i.product_id FROM order_items i WHERE i.order_id = o.id)), '[]'))
              FROM orders o WHERE o.id = s.order_id))
FROM shipments s
