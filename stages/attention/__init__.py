"""A few learned queries over many frozen tokens, without projecting the tokens and without a float copy of them.

Tokens never need a gradient, and there are few queries, so products are regrouped ("our reading" of how to make it
cheap; the result is that of plain attention):

- keys: `q (x W_k)^T = (q W_k^T) x^T`, so W_k is folded into the queries and no keys exist;
- values: `a (x W_v) = (a x) W_v`, so the tokens are summed first and W_v is applied to K*H sums;
- LayerNorm: `q LN(x)^T = rstd * (q - mean_C(q)) x^T`, because taking the mean off x or off q is the same; likewise the
  mean is taken off W_v. Only one over the deviation of every token is needed, LN(x) never exists.

That costs about K*H*C for each token, where projecting to width R costs R*C: `attend` takes what costs less.
`stored` has the tokens block by block, `token_pass` the one pass that both forms make over them, `forms` the algebra.
"""

from avpipe.stages.attention.forms import Form, attend, centered, cheaper_form, fold_queries, mix
from avpipe.stages.attention.stored import StoredTokens, inverse_deviation
from avpipe.stages.attention.token_pass import token_weights

__all__ = [
    "Form",
    "StoredTokens",
    "attend",
    "centered",
    "cheaper_form",
    "fold_queries",
    "inverse_deviation",
    "mix",
    "token_weights",
]
