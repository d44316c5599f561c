// Package hook calls the functions of the Hooks structs, which may be nil and may
// return nil.
package hook

import "context"

// Begin calls a hook for an operation that begins. It returns the context of the
// operation and the function to call when it ends; neither is nil.
func Begin[Info, Outcome any](ctx context.Context, f func(context.Context, Info) (context.Context, func(Outcome)), info Info) (context.Context, func(Outcome)) {
	if f != nil {
		under, ended := f(ctx, info)
		if under != nil {
			ctx = under
		}
		if ended != nil {
			return ctx, ended
		}
	}
	return ctx, func(Outcome) {}
}
