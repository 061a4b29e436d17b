SELECT g.id::text, jsonb_build_object(
    'id', g.id, 'name', g.name,
    'parent', (SELECT jsonb_build_object('id', r.id, 'name', r.name) FROM categories r WHERE r.id = g.parent_id),
    'children', coalesce((SELECT jsonb_agg(jsonb_build_object('id', k.id, 'name', k.name) ORDER BY k.id)
                FROM categories k WHERE k.parent_id = g.id), '[]'),
    'products', coalesce((SELECT jsonb_agg(jsonb_build_object('id', p.id, 'sku', p.sku, 'name', p.name, 'price', p.price)
                    ORDER BY p.price DESC, p.sku COLLATE "C")
                FROM (SELECT * FROM products WHERE category_id = g.id ORDER BY price DESC, sku COLLATE "C" LIMIT 20) p), '[]'),
    'product_count', (SELECT count(*) FROM products p WHERE p.category_id = g.id))
FROM categories g
