// Package shop is the example that the demo and the end-to-end tests run: an online shop's database, five views
// over it, traffic that changes it in every way a database can be changed, and the truth: for each view a plain
// SQL query that says what its documents must be, written independently of the views.
package shop

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed schema.sql seed.sql views/*.yaml truth/*.sql
var files embed.FS

// Size says how many rows the shop begins with.
type Size struct {
	Customers int // addresses: four for every three customers
	Products  int // in 60 categories
	Orders    int // items: 2.5 for every order, payments for half of them, shipments for a third
}

// Tables are the shop's tables, as the configuration names them.
func Tables() []string {
	return []string{
		"public.customers", "public.addresses", "public.categories", "public.products",
		"public.orders", "public.order_items", "public.payments", "public.shipments",
	}
}

// Views are the names of the shop's views.
func Views() []string {
	entries, err := fs.ReadDir(files, "views")
	if err != nil {
		panic(err) // the files are part of the binary
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ".yaml")
	}
	return names
}

// Definition is the YAML of a view.
func Definition(view string) []byte { return read("views/" + view + ".yaml") }

// Truth is the query that gives a view's documents: two columns, the document's id and the document as jsonb.
func Truth(view string) string { return string(read("truth/" + view + ".sql")) }

// Create makes the shop's tables in an empty database and fills them.
func Create(ctx context.Context, conn *pgx.Conn, size Size) error {
	if _, err := conn.Exec(ctx, string(read("schema.sql"))); err != nil {
		return fmt.Errorf("create shop: %w", err)
	}
	settings := fmt.Sprintf("SET shop.customers = '%d'; SET shop.products = '%d'; SET shop.orders = '%d';\n",
		size.Customers, size.Products, size.Orders)
	if _, err := conn.Exec(ctx, settings+string(read("seed.sql"))); err != nil {
		return fmt.Errorf("fill shop: %w", err)
	}
	return nil
}

func read(name string) []byte {
	data, err := files.ReadFile(name)
	if err != nil {
		panic(err) // the files are part of the binary
	}
	return data
}
