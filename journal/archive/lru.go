package archive

import "container/list"

// lru keeps what was used last, bounded by cost; what was put last stays, whatever it costs. It is not safe for concurrent
// use.
type lru[K comparable, V any] struct {
	limit, cost int64
	order       list.List // of *kept[K, V], the one used last in front
	byKey       map[K]*list.Element
}

type kept[K comparable, V any] struct {
	key   K
	value V
	cost  int64
}

func newLRU[K comparable, V any](limit int64) *lru[K, V] {
	return &lru[K, V]{limit: limit, byKey: map[K]*list.Element{}}
}

func (l *lru[K, V]) get(key K) (value V, ok bool) {
	e, ok := l.byKey[key]
	if !ok {
		return value, false
	}
	l.order.MoveToFront(e)
	return e.Value.(*kept[K, V]).value, true
}

func (l *lru[K, V]) put(key K, value V, cost int64) {
	l.remove(key)
	l.byKey[key] = l.order.PushFront(&kept[K, V]{key, value, cost})
	l.cost += cost
	for l.cost > l.limit && l.order.Len() > 1 {
		l.remove(l.order.Back().Value.(*kept[K, V]).key)
	}
}

func (l *lru[K, V]) remove(key K) {
	if e, ok := l.byKey[key]; ok {
		l.cost -= l.order.Remove(e).(*kept[K, V]).cost
		delete(l.byKey, key)
	}
}
