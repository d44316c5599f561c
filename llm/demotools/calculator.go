package demotools

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math/big"
)

const (
	maxExpression = 1000 // bytes
	maxDigits     = 1000 // of an intermediate value, so that nothing explodes
)

// evaluate computes an arithmetic expression exactly and shows it with up to 12
// decimals. The expression is read by Go's own parser, of which only numbers,
// + - * / and parentheses are accepted.
func evaluate(expression string) (string, error) {
	tree, err := parser.ParseExpr(expression)
	if err != nil {
		return "", errors.New("this is not an arithmetic expression")
	}
	value, err := eval(tree)
	if err != nil {
		return "", err
	}
	if value.IsInt() {
		return value.Num().String(), nil
	}
	return trimZeros(value.FloatString(12)), nil
}

func eval(node ast.Expr) (*big.Rat, error) {
	switch n := node.(type) {
	case *ast.ParenExpr:
		return eval(n.X)
	case *ast.BasicLit:
		return number(n)
	case *ast.UnaryExpr:
		x, err := eval(n.X)
		if err != nil {
			return nil, err
		}
		switch n.Op {
		case token.SUB:
			return x.Neg(x), nil
		case token.ADD:
			return x, nil
		}
	case *ast.BinaryExpr:
		x, err := eval(n.X)
		if err != nil {
			return nil, err
		}
		y, err := eval(n.Y)
		if err != nil {
			return nil, err
		}
		return apply(n.Op, x, y)
	}
	return nil, errors.New("only numbers, + - * / and parentheses can be used")
}

func number(n *ast.BasicLit) (*big.Rat, error) {
	if n.Kind != token.INT && n.Kind != token.FLOAT {
		return nil, errors.New("only numbers can be computed with")
	}
	for _, c := range n.Value {
		if (c < '0' || c > '9') && c != '.' {
			return nil, fmt.Errorf("the number %s is not plain decimal", n.Value)
		}
	}
	x, ok := new(big.Rat).SetString(n.Value)
	if !ok {
		return nil, fmt.Errorf("the number %s cannot be read", n.Value)
	}
	return x, nil
}

func apply(op token.Token, x, y *big.Rat) (*big.Rat, error) {
	z := new(big.Rat)
	switch op {
	case token.ADD:
		z.Add(x, y)
	case token.SUB:
		z.Sub(x, y)
	case token.MUL:
		z.Mul(x, y)
	case token.QUO:
		if y.Sign() == 0 {
			return nil, errors.New("division by zero")
		}
		z.Quo(x, y)
	default:
		return nil, fmt.Errorf("the operator %s is not known", op)
	}
	if bits := 4 * maxDigits; z.Num().BitLen() > bits || z.Denom().BitLen() > bits {
		return nil, errors.New("the numbers get too large")
	}
	return z, nil
}

func trimZeros(s string) string {
	i := len(s)
	for i > 0 && s[i-1] == '0' {
		i--
	}
	if i > 0 && s[i-1] == '.' {
		i--
	}
	return s[:i]
}
