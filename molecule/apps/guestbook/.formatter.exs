[
  inputs: ["*.exs", "{config,lib,test,priv,extra}/**/*.{ex,exs}"],
  locals_without_parens: [execute: 1],
  line_length: 110
]
