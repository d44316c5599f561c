// Package recipes executes the files of docs/recipes with the programs that they
// are made for.
package recipes
