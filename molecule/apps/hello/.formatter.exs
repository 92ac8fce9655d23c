[
  inputs: ["*.exs", "{config,lib,test}/**/*.{ex,exs}"],
  line_length: 110
]
