package demotools

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
)

const (
	maxExpression = 1000 // bytes
	maxDigits     = 1000 // of an intermediate value, so that nothing explodes
)

// evaluate computes an arithmetic expression exactly and shows it with up to 12
// decimals. It reads
//
//	sum     = product { ("+" | "-") product }
//	product = factor { ("*" | "/") factor }
//	factor  = ("+" | "-") factor | "(" sum ")" | decimal number
func evaluate(expression string) (string, error) {
	r := &reader{rest: expression}
	value, err := r.sum()
	if err != nil {
		return "", err
	}
	if c := r.peek(); c != 0 {
		return "", fmt.Errorf("%q is not expected there: only numbers, + - * / and parentheses can be used", r.char())
	}
	if value.IsInt() {
		return value.Num().String(), nil
	}
	if shown := trimZeros(value.FloatString(12)); shown != "-0" {
		return shown, nil
	}
	return "0", nil
}

// reader computes while it reads. An expression's length bounds its depth.
type reader struct{ rest string }

// peek is the next byte that is not white space; 0: the end.
func (r *reader) peek() byte {
	if r.rest = strings.TrimLeft(r.rest, " \t\r\n"); r.rest == "" {
		return 0
	}
	return r.rest[0]
}

// char is the next character, for an error.
func (r *reader) char() string {
	for _, c := range r.rest {
		return string(c)
	}
	return ""
}

func (r *reader) sum() (*big.Rat, error) { return r.chain("+-", r.product) }

func (r *reader) product() (*big.Rat, error) { return r.chain("*/", r.factor) }

// chain reads operands with operators between them, from left to right.
func (r *reader) chain(operators string, operand func() (*big.Rat, error)) (*big.Rat, error) {
	x, err := operand()
	for err == nil {
		op := r.peek()
		if op == 0 || strings.IndexByte(operators, op) < 0 {
			return x, nil
		}
		r.rest = r.rest[1:]
		var y *big.Rat
		if y, err = operand(); err == nil {
			x, err = apply(op, x, y)
		}
	}
	return nil, err
}

func (r *reader) factor() (*big.Rat, error) {
	switch c := r.peek(); {
	case c == '-' || c == '+':
		r.rest = r.rest[1:]
		x, err := r.factor()
		if err == nil && c == '-' {
			x.Neg(x)
		}
		return x, err
	case c == '(':
		r.rest = r.rest[1:]
		x, err := r.sum()
		if err == nil && r.peek() != ')' {
			return nil, errors.New("a closing parenthesis is missing")
		}
		r.rest = strings.TrimPrefix(r.rest, ")")
		return x, err
	case c == 0:
		return nil, errors.New("the expression ends where a number is expected")
	}
	return r.number()
}

func (r *reader) number() (*big.Rat, error) {
	end := len(r.rest) - len(strings.TrimLeft(r.rest, "0123456789."))
	text := r.rest[:end]
	if text == "" {
		return nil, fmt.Errorf("%q is not expected there: only numbers, + - * / and parentheses can be used", r.char())
	}
	x, ok := new(big.Rat).SetString(text)
	if !ok {
		return nil, fmt.Errorf("the number %s cannot be read", text)
	}
	r.rest = r.rest[end:]
	return x, nil
}

func apply(op byte, x, y *big.Rat) (*big.Rat, error) {
	z := new(big.Rat)
	switch op {
	case '+':
		z.Add(x, y)
	case '-':
		z.Sub(x, y)
	case '*':
		z.Mul(x, y)
	case '/':
		if y.Sign() == 0 {
			return nil, errors.New("division by zero")
		}
		z.Quo(x, y)
	}
	if bits := 4 * maxDigits; z.Num().BitLen() > bits || z.Denom().BitLen() > bits {
		return nil, errors.New("the numbers are too large")
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
