package views

import (
	"errors"
	"fmt"
	"regexp"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"

	"github.com/lanternist/lanternist/row"
)

// costLimit bounds the work of one evaluation, in CEL's units: an expression over a list of 100,000 rows stays
// far below it, and one that multiplies such lists with each other does not.
const costLimit = 100_000_000

// program is a compiled expression. It is safe for concurrent use.
type program struct {
	what    string // "field big", "where of items": for messages
	place   string // file:line
	program cel.Program
	celType *cel.Type
	typ     row.Type // of the result, or of the elements when it is a list
	many    bool
}

// baseEnv is the language: CEL's standard library with its string and math extensions, and comparison between
// numbers of different types, so that doc.total > 1000 means what it says.
var baseEnv = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(cel.CrossTypeNumericComparisons(true), ext.Strings(), ext.Math())
})

// program compiles an expression over the row of an object and, if withDoc, over the object's fields. It is nil
// after a problem.
func (c *compiler) program(o *object, def *exprDef, withDoc bool) *program {
	c.env.line = def.line
	env, err := c.celEnv(o, withDoc)
	if err != nil {
		c.failf(def.line, "CEL environment: %v", err)
		return nil
	}
	checked, issues := env.Compile(def.text)
	if issues.Err() != nil {
		for _, problem := range issues.Errors() {
			c.failf(def.line+max(problem.Location.Line()-1, 0), "CEL, column %d: %s%s",
				problem.Location.Column()+1, plainTypes(problem.Message), c.meantInExpr(o, problem.Message, withDoc))
		}
		return nil
	}
	if name := bareVariable(checked); name != "" {
		c.failf(def.line, "CEL: %s is used as a whole; name one of its fields, as in %s.id", name, name)
		return nil
	}
	compiled, err := env.Program(checked, cel.CostLimit(costLimit), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		c.failf(def.line, "CEL: %v", err)
		return nil
	}
	p := &program{program: compiled, celType: checked.OutputType(), place: fmt.Sprintf("%s:%d", c.def.File, def.line)}
	p.typ, p.many = resultType(p.celType)
	return p
}

// filter compiles an expression that must be true or false.
func (c *compiler) filter(o *object, def *exprDef, withDoc bool) *program {
	p := c.program(o, def, withDoc)
	if p == nil {
		return nil
	}
	if kind := p.celType.Kind(); kind != types.BoolKind && kind != types.DynKind {
		c.failf(def.line, "where must be true or false, and is %s", plainTypes(p.celType.String()))
		return nil
	}
	p.what = "where"
	if o.path != "" {
		p.what = "where of " + o.path
	}
	return p
}

// celEnv is the environment of expressions in an object.
func (c *compiler) celEnv(o *object, withDoc bool) (*cel.Env, error) {
	base, err := baseEnv()
	if err != nil {
		return nil, err
	}
	if c.env.Provider == nil {
		c.env.Provider = base.CELTypeProvider()
	}
	options := []cel.EnvOption{
		cel.CustomTypeProvider(c.env),
		cel.Variable("row", types.NewObjectType(o.rowType)),
	}
	if withDoc {
		options = append(options, cel.Variable("doc", types.NewObjectType(o.typ)))
	}
	return base.Extend(options...)
}

var (
	undefinedField = regexp.MustCompile(`^undefined field '([^']*)'`)
	undeclaredName = regexp.MustCompile(`^undeclared reference to '([^']*)'`)
	nullableType   = regexp.MustCompile(`wrapper\((\w+)\)`)
)

// plainTypes takes out of a message that a type may be null, which every column's may.
func plainTypes(message string) string { return nullableType.ReplaceAllString(message, "$1") }

// meantInExpr is a suggestion for an unknown name in an expression of object o, or nothing.
func (c *compiler) meantInExpr(o *object, message string, withDoc bool) string {
	if m := undeclaredName.FindStringSubmatch(message); m != nil {
		if withDoc && (c.env.members[o][m[1]] != nil) {
			return fmt.Sprintf("; did you mean %q?", "doc."+m[1])
		}
		if o.column(m[1]) >= 0 {
			return fmt.Sprintf("; did you mean %q?", "row."+m[1])
		}
		return ""
	}
	m := undefinedField.FindStringSubmatch(message)
	if m == nil {
		return ""
	}
	if why := unsent(o.schema, m[1]); why != "" {
		return fmt.Sprintf("; column %q of %s %s", m[1], o.schema.QualifiedName(), why)
	}
	if f, declared := c.env.members[o][m[1]]; declared && f == nil {
		return "; it is computed further down, or has a problem of its own"
	}
	names := columnNames(o.schema)
	for _, other := range c.made.objects {
		names = append(names, c.env.names(other)...)
	}
	return meant(m[1], names)
}

// bareVariable is "doc" or "row" when the expression uses it other than to select a field from it.
func bareVariable(checked *cel.Ast) string {
	selected := map[int64]bool{}
	bare := ""
	ast.PreOrderVisit(checked.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.SelectKind:
			selected[e.AsSelect().Operand().ID()] = true
		case ast.IdentKind:
			if name := e.AsIdent(); (name == "doc" || name == "row") && !selected[e.ID()] {
				bare = name
			}
		}
	}))
	return bare
}

// eval evaluates the expression for an instance. The error wraps ErrEvaluate when the expression is to blame, and
// is the mirror's when rows could not be read.
func (p *program) eval(in *instance) (ref.Val, error) {
	out, _, err := p.program.Eval((*activation)(in))
	if in.composer.failure != nil {
		return nil, in.composer.failure
	}
	if err == nil && types.IsError(out) {
		err = out.Value().(error)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %s: %w", ErrEvaluate, p.place, p.what, err)
	}
	return out, nil
}

// errNotBool is what a filter gives that is neither true nor false.
var errNotBool = errors.New("the result is neither true nor false")

// holds evaluates a filter.
func (p *program) holds(in *instance) (bool, error) {
	out, err := p.eval(in)
	if err != nil {
		return false, err
	}
	b, ok := out.(types.Bool)
	if !ok {
		return false, fmt.Errorf("%w: %s: %s: %w", ErrEvaluate, p.place, p.what, errNotBool)
	}
	return bool(b), nil
}
