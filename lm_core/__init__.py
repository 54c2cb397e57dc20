"""LM Lab's subject: a language model small enough to read, in plain PyTorch.

Read the modules in this order; each stands only on those before it:

    device · tokenizer · positions · masks · probability      no neural network yet
    attention · layers                                        one head, many heads, one block
    sampling · ops · model                                    a whole GPT-2, Llama or BERT
    generation · checkpoint · data · pretrain                 text out, files in and out, learning
"""
