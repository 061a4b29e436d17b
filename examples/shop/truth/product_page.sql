SELECT p.id::text, jsonb_build_object(
    'id', p.id, 'sku', p.sku, 'name', p.name, 'price', p.price, 'tags', to_jsonb(p.tags), 'attributes', p.attributes,
    'updated_at', p.updated_at,
    'category', (SELECT jsonb_build_object('id', g.id, 'name', g.name,
                    'parent', (SELECT jsonb_build_object('id', r.id, 'name', r.name) FROM categories r WHERE r.id = g.parent_id))
                 FROM categories g WHERE g.id = p.category_id),
    'times_sold', (SELECT count(*) FROM order_items i WHERE i.product_id = p.id),
    'pieces_sold', (SELECT sum(qty) FROM order_items i WHERE i.product_id = p.id))
FROM products p
